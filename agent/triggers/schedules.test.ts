import { describe, expect, it } from 'vitest';
import { explainInvalidCron, type Schedule } from '../config/schedules.ts';
import type { ScheduleState } from '../store/schedules.ts';
import { Scheduler } from './schedules.ts';

/** A scheduler with a clock that the test sets. Records what it starts and reports. */
class Bench {
  now = new Date('2026-11-23T02:00:00Z');
  readonly started: string[] = [];
  readonly reported: string[] = [];
  readonly saved = new Map<string, ScheduleState>();
  readonly running = new Set<string>();
  fails = false;
  schedules: Scheduler;
  readonly #schedule: Schedule;

  constructor(changes: Partial<Schedule> = {}) {
    this.#schedule = {
      name: 'nightly',
      cron: '0 3 * * *',
      timezone: 'UTC',
      intent: 'x',
      params: {},
      catch_up: 'once',
      ...changes,
    };
    this.schedules = this.restart();
  }

  /** Creates the scheduler of a new agent, which knows only the saved states. */
  restart(): Scheduler {
    this.schedules = new Scheduler({
      schedules: () => [this.#schedule],
      state: name => this.saved.get(name),
      save: (name, state) => void this.saved.set(name, state),
      start: async (_, run) => {
        if (this.fails) throw new Error('not now');
        this.started.push(run);
      },
      isRunning: run => this.running.has(run),
      report: (event, { at }) => void this.reported.push(`${event} ${at.slice(0, 16)}`),
      now: () => this.now,
    });
    return this.schedules;
  }

  async at(time: string): Promise<string[]> {
    this.now = new Date(time);
    this.reported.length = 0;
    await this.schedules.startDue();
    return [...this.reported];
  }
}

describe('a schedule', () => {
  it('starts a run at its time, once, but not for times before the agent knew the schedule', async () => {
    const bench = new Bench();
    expect(await bench.at('2026-11-23T02:00:00Z')).toEqual([]);
    expect(await bench.at('2026-11-23T02:59:59Z')).toEqual([]);
    expect(await bench.at('2026-11-23T03:00:00Z')).toEqual(['schedule-begun 2026-11-23T03:00']);
    expect(await bench.at('2026-11-23T03:00:01Z')).toEqual([]);
    bench.restart();
    expect(await bench.at('2026-11-23T03:00:30Z')).toEqual([]);
    expect(await bench.at('2026-11-24T03:00:10Z')).toEqual(['schedule-begun 2026-11-24T03:00']);
    expect(new Set(bench.started).size).toBe(2);
  });

  it('gives the run of one time the same id after a restart, so that a killed agent starts no second run', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    const before = new Map(bench.saved);
    await bench.at('2026-11-23T03:00:00Z');
    bench.saved.clear();
    for (const [name, state] of before) bench.saved.set(name, state);
    bench.restart();
    await bench.at('2026-11-23T03:00:05Z');
    expect(bench.started).toHaveLength(2);
    expect(bench.started[0]).toBe(bench.started[1]);
    expect(bench.started[0]).toMatch(/^schedule-[0-9a-f]{32}$/);
  });

  it.each([
    { catch_up: 'once', reported: ['schedule-begun 2026-11-26T03:00'] },
    { catch_up: 'none', reported: ['schedule-missed 2026-11-26T03:00'] },
  ] as const)('handles a time that was missed for days as catch_up: $catch_up says', async ({ catch_up, reported }) => {
    const bench = new Bench({ catch_up });
    await bench.at('2026-11-23T02:00:00Z');
    bench.restart();
    expect(await bench.at('2026-11-26T10:00:00Z')).toEqual(reported);
    expect(await bench.at('2026-11-26T10:00:10Z')).toEqual([]);
    expect(await bench.at('2026-11-27T03:00:00Z')).toEqual(['schedule-begun 2026-11-27T03:00']);
  });

  it('skips a time while its previous run has not ended', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    await bench.at('2026-11-23T03:00:00Z');
    bench.running.add(bench.started[0] ?? '');
    expect(await bench.at('2026-11-24T03:00:00Z')).toEqual(['schedule-skipped 2026-11-24T03:00']);
    bench.running.clear();
    expect(await bench.at('2026-11-25T03:00:00Z')).toEqual(['schedule-begun 2026-11-25T03:00']);
  });

  it('reports a run that could not start, and tries again only at its next time', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    bench.fails = true;
    expect(await bench.at('2026-11-23T03:00:00Z')).toEqual(['schedule-failed 2026-11-23T03:00']);
    expect(await bench.at('2026-11-23T03:01:00Z')).toEqual([]);
  });

  it('moves a time in the summer-time gap to the end of the gap, and runs a repeated time once', async () => {
    const bench = new Bench({ cron: '30 2 * * *', timezone: 'Europe/Berlin' });
    await bench.at('2026-03-28T12:00:00Z');
    // 02:30 does not exist on that day.
    expect(await bench.at('2026-03-29T00:59:59Z')).toEqual([]);
    expect(await bench.at('2026-03-29T01:00:30Z')).toEqual(['schedule-begun 2026-03-29T01:00']);
    expect(await bench.at('2026-03-30T00:30:00Z')).toEqual(['schedule-begun 2026-03-30T00:30']);
    await bench.at('2026-10-24T12:00:00Z');
    // 02:30 comes twice on that day.
    expect(await bench.at('2026-10-25T00:30:10Z')).toEqual(['schedule-begun 2026-10-25T00:30']);
    expect(await bench.at('2026-10-25T01:30:10Z')).toEqual([]);
    expect(await bench.at('2026-10-26T01:30:10Z')).toEqual(['schedule-begun 2026-10-26T01:30']);
  });

  it('delays a time by its jitter, which is the same after a restart', async () => {
    const bench = new Bench({ jitter: '10m' });
    await bench.at('2026-11-23T02:00:00Z');
    const [listed] = bench.schedules.list();
    const next = Date.parse(listed?.next ?? '');
    expect(next).toBeGreaterThan(Date.parse('2026-11-23T03:00:00Z'));
    expect(next).toBeLessThan(Date.parse('2026-11-23T03:10:00Z'));
    expect(bench.restart().list()[0]?.next).toBe(listed?.next);
    expect(await bench.at(new Date(next - 1000).toISOString())).toEqual([]);
    expect(await bench.at(new Date(next).toISOString())).toEqual(['schedule-begun 2026-11-23T03:00']);
  });

  it.each([
    { cron: '0 3 * * *', problem: undefined },
    { cron: '*/5 8-18 * * mon-fri', problem: undefined },
    { cron: '0 0 31 2 *', problem: 'it never comes' },
    { cron: 'nonsense', problem: expect.stringContaining('') },
    { cron: '61 * * * *', problem: expect.stringContaining('') },
  ])('checks its cron expression: $cron', ({ cron, problem }) => {
    expect(explainInvalidCron(cron, 'UTC')).toEqual(problem);
  });
});
