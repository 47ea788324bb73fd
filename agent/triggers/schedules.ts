import { createHash } from 'node:crypto';
import { parseDuration } from '../../intents/duration.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { cronOf, type Schedule } from '../config/schedules.ts';
import type { ListedSchedule, ScheduleState } from '../store/schedules.ts';

export interface SchedulerOptions {
  schedules: () => readonly Schedule[];
  state: (name: string) => ScheduleState | undefined;
  /** Durable when it returns. */
  save: (name: string, state: ScheduleState) => void;
  /** Starts the run with that id. Throws if it cannot. */
  start: (schedule: Schedule, run: string) => Promise<void>;
  /** Returns true if the run has not ended. */
  isRunning: (run: string) => boolean;
  /** Reports the outcome of a scheduled time: `schedule-begun`, `-skipped`, `-missed`, `-failed`. */
  report: (event: string, facts: { schedule: string; at: string; run?: string; why?: string }) => void;
  now?: () => Date;
}

/** Maximum time between two checks in milliseconds: the clock may jump, and a timer stops while the machine is suspended. */
const MAX_SLEEP_MS = 30_000;

/** A time that passed longer ago was missed: the agent was not running. */
const LATE_MS = 120_000;

/** Starts runs at their scheduled times, each time once, across restarts of the agent. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #now: () => Date;
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> = Promise.resolve();

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** Starts to check the schedules; also called after the configuration has changed. */
  start(): void {
    clearTimeout(this.#timer);
    this.#checking = this.#checking
      .then(() => this.startDue())
      .catch((error: unknown) => console.error('schedules:', error));
    void this.#checking.then(() => this.#sleep());
  }

  /** Starts no more runs. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#checking;
    clearTimeout(this.#timer);
  }

  list(): ListedSchedule[] {
    return this.#options.schedules().map(schedule => {
      const { name, cron, timezone, intent } = schedule;
      const state = this.#options.state(name) ?? { last: '', run: null };
      const next = cronOf(schedule).nextRun(this.#now());
      return { name, cron, timezone, intent, ...state, next: next ? addJitter(next, schedule).toISOString() : null };
    });
  }

  /** Handles every scheduled time that has come. */
  async startDue(): Promise<void> {
    for (const schedule of this.#options.schedules()) {
      const now = this.#now();
      const state = this.#options.state(schedule.name);
      if (!state) {
        // Times before the agent knew the schedule are not caught up.
        this.#options.save(schedule.name, { last: now.toISOString(), run: null });
        continue;
      }
      const [latest] = cronOf(schedule).previousRuns(1, new Date(now.getTime() + 1000));
      if (!latest || latest <= new Date(state.last) || addJitter(latest, schedule) > now) continue;
      await this.#handleTime(schedule, latest, state, now);
    }
  }

  async #handleTime(schedule: Schedule, at: Date, { run: previous }: ScheduleState, now: Date): Promise<void> {
    const { save, start, isRunning, report } = this.#options;
    const facts = { schedule: schedule.name, at: at.toISOString() };
    const isLate = now.getTime() - addJitter(at, schedule).getTime() > LATE_MS;
    const saveDone = (run: string | null) => save(schedule.name, { last: at.toISOString(), run });
    if (isLate && schedule.catch_up === 'none') {
      saveDone(previous);
      return report('schedule-missed', facts);
    }
    if (previous !== null && isRunning(previous)) {
      saveDone(previous);
      return report('schedule-skipped', { ...facts, run: previous, why: 'the previous run has not ended' });
    }
    // The id depends on the time only: an agent that ends before it saves the start does not start a second run.
    const run = `schedule-${createHash('sha256').update(`${schedule.name} ${facts.at}`).digest('hex').slice(0, 32)}`;
    try {
      await start(schedule, run);
      report('schedule-begun', { ...facts, run });
    } catch (error) {
      report('schedule-failed', { ...facts, why: messageOf(error) });
    }
    saveDone(run);
  }

  #sleep(): void {
    clearTimeout(this.#timer);
    const now = this.#now().getTime();
    const waits = this.list().flatMap(({ next }) => (next === null ? [] : [Date.parse(next) - now]));
    const wait = Math.max(50, Math.min(MAX_SLEEP_MS, ...waits));
    this.#timer = setTimeout(() => this.start(), wait);
    this.#timer.unref();
  }
}

/** Returns the time plus its jitter, which depends on the time only: a restart does not change it. */
function addJitter(at: Date, { name, jitter }: Schedule): Date {
  if (jitter === undefined) return at;
  const share = createHash('sha256').update(`${name} ${at.toISOString()}`).digest().readUInt32BE(0) / 2 ** 32;
  return new Date(at.getTime() + Math.floor(share * parseDuration(jitter)));
}
