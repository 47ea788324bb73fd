import { describe, expect, it } from 'vitest';
import { explainInvalidCron, type Schedule } from '../config/schedules.ts';
import type { ScheduleState } from '../store/schedules.ts';
import { Scheduler } from './schedules.ts';

/** Schedules with a clock that is set, and everything that they tell. */
class Bench {
  now = new Date('2026-11-23T02:00:00Z');
  readonly begun: string[] = [];
  readonly told: string[] = [];
  readonly kept = new Map<string, ScheduleState>();
  readonly going = new Set<string>();
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
    this.schedules = this.restarted();
  }

  /** As a new agent has them: only what was kept is known. */
  restarted(): Scheduler {
    this.schedules = new Scheduler({
      schedules: () => [this.#schedule],
      state: name => this.kept.get(name),
      keep: (name, state) => void this.kept.set(name, state),
      begin: async (_, run) => {
        if (this.fails) throw new Error('not now');
        this.begun.push(run);
      },
      isGoing: run => this.going.has(run),
      tell: (event, { at }) => void this.told.push(`${event} ${at.slice(0, 16)}`),
      now: () => this.now,
    });
    return this.schedules;
  }

  async at(time: string): Promise<string[]> {
    this.now = new Date(time);
    this.told.length = 0;
    await this.schedules.startDue();
    return [...this.told];
  }
}

describe('a schedule', () => {
  it('begins a run at its time, once, and not for times before it was known', async () => {
    const bench = new Bench();
    expect(await bench.at('2026-11-23T02:00:00Z')).toEqual([]);
    expect(await bench.at('2026-11-23T02:59:59Z')).toEqual([]);
    expect(await bench.at('2026-11-23T03:00:00Z')).toEqual(['schedule-begun 2026-11-23T03:00']);
    expect(await bench.at('2026-11-23T03:00:01Z')).toEqual([]);
    bench.restarted();
    expect(await bench.at('2026-11-23T03:00:30Z')).toEqual([]);
    expect(await bench.at('2026-11-24T03:00:10Z')).toEqual(['schedule-begun 2026-11-24T03:00']);
    expect(new Set(bench.begun).size).toBe(2);
  });

  it('names the same run for the same time, so that one who was killed begins no second one', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    const before = new Map(bench.kept);
    await bench.at('2026-11-23T03:00:00Z');
    bench.kept.clear();
    for (const [name, state] of before) bench.kept.set(name, state);
    bench.restarted();
    await bench.at('2026-11-23T03:00:05Z');
    expect(bench.begun).toHaveLength(2);
    expect(bench.begun[0]).toBe(bench.begun[1]);
    expect(bench.begun[0]).toMatch(/^schedule-[0-9a-f]{32}$/);
  });

  it.each([
    ['once', ['schedule-begun 2026-11-26T03:00']],
    ['none', ['schedule-missed 2026-11-26T03:00']],
  ] as const)('that was missed for days is caught up %s', async (catch_up, told) => {
    const bench = new Bench({ catch_up });
    await bench.at('2026-11-23T02:00:00Z');
    bench.restarted();
    expect(await bench.at('2026-11-26T10:00:00Z')).toEqual(told);
    expect(await bench.at('2026-11-26T10:00:10Z')).toEqual([]);
    expect(await bench.at('2026-11-27T03:00:00Z')).toEqual(['schedule-begun 2026-11-27T03:00']);
  });

  it('does not overlap with itself', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    await bench.at('2026-11-23T03:00:00Z');
    bench.going.add(bench.begun[0] ?? '');
    expect(await bench.at('2026-11-24T03:00:00Z')).toEqual(['schedule-skipped 2026-11-24T03:00']);
    bench.going.clear();
    expect(await bench.at('2026-11-25T03:00:00Z')).toEqual(['schedule-begun 2026-11-25T03:00']);
  });

  it('that can’t be begun is told, and not tried again until its next time', async () => {
    const bench = new Bench();
    await bench.at('2026-11-23T02:00:00Z');
    bench.fails = true;
    expect(await bench.at('2026-11-23T03:00:00Z')).toEqual(['schedule-failed 2026-11-23T03:00']);
    expect(await bench.at('2026-11-23T03:01:00Z')).toEqual([]);
  });

  it('keeps summer time: a time that there is not comes after the gap, one that comes twice once', async () => {
    const bench = new Bench({ cron: '30 2 * * *', timezone: 'Europe/Berlin' });
    await bench.at('2026-03-28T12:00:00Z');
    // 02:30 is not there on that day.
    expect(await bench.at('2026-03-29T00:59:59Z')).toEqual([]);
    expect(await bench.at('2026-03-29T01:00:30Z')).toEqual(['schedule-begun 2026-03-29T01:00']);
    expect(await bench.at('2026-03-30T00:30:00Z')).toEqual(['schedule-begun 2026-03-30T00:30']);
    await bench.at('2026-10-24T12:00:00Z');
    // 02:30 is there twice on that day.
    expect(await bench.at('2026-10-25T00:30:10Z')).toEqual(['schedule-begun 2026-10-25T00:30']);
    expect(await bench.at('2026-10-25T01:30:10Z')).toEqual([]);
    expect(await bench.at('2026-10-26T01:30:10Z')).toEqual(['schedule-begun 2026-10-26T01:30']);
  });

  it('comes later by its jitter, the same for the same time', async () => {
    const bench = new Bench({ jitter: '10m' });
    await bench.at('2026-11-23T02:00:00Z');
    const [listed] = bench.schedules.list();
    const next = Date.parse(listed?.next ?? '');
    expect(next).toBeGreaterThan(Date.parse('2026-11-23T03:00:00Z'));
    expect(next).toBeLessThan(Date.parse('2026-11-23T03:10:00Z'));
    expect(bench.restarted().list()[0]?.next).toBe(listed?.next);
    expect(await bench.at(new Date(next - 1000).toISOString())).toEqual([]);
    expect(await bench.at(new Date(next).toISOString())).toEqual(['schedule-begun 2026-11-23T03:00']);
  });

  it.each([
    ['0 3 * * *', undefined],
    ['*/5 8-18 * * mon-fri', undefined],
    ['0 0 31 2 *', 'it never comes'],
    ['nonsense', expect.stringContaining('')],
    ['61 * * * *', expect.stringContaining('')],
  ])('%s is looked at before', (cron, trouble) => {
    expect(explainInvalidCron(cron, 'UTC')).toEqual(trouble);
  });
});
