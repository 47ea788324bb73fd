import { createHash } from 'node:crypto';
import { parseDuration } from '../../intents/duration.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { cronOf, type Schedule } from '../config/schedules.ts';
import type { ListedSchedule, ScheduleState } from '../store/schedules.ts';

export interface SchedulerOptions {
  schedules: () => readonly Schedule[];
  state: (name: string) => ScheduleState | undefined;
  /** Durable when it returns. */
  keep: (name: string, state: ScheduleState) => void;
  /** Begins the run with that id. Throws where it can't. */
  begin: (schedule: Schedule, run: string) => Promise<void>;
  /** Whether that run goes on. */
  isGoing: (run: string) => boolean;
  /** What became of a time: `schedule-begun`, `-skipped`, `-missed`, `-failed`. */
  tell: (event: string, facts: { schedule: string; at: string; run?: string; why?: string }) => void;
  now?: () => Date;
}

/** The clock may jump, and a timer sleeps with the machine: it is looked at least this often, in milliseconds. */
const MAX_SLEEP_MS = 30_000;

/** A time that has passed longer ago was missed: the agent was not there. */
const LATE_MS = 120_000;

/** Begins runs at their times, each time once, also over restarts of the agent. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #now: () => Date;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** Looks from now on; also after the configuration has changed. */
  start(): void {
    clearTimeout(this.#timer);
    this.#looking = this.#looking
      .then(() => this.startDue())
      .catch((error: unknown) => console.error('schedules:', error));
    void this.#looking.then(() => this.#sleep());
  }

  /** Begins nothing more. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#looking;
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

  /** Sees to every time that has come. */
  async startDue(): Promise<void> {
    for (const schedule of this.#options.schedules()) {
      const now = this.#now();
      const known = this.#options.state(schedule.name);
      if (!known) {
        // What was before it was known is not caught up.
        this.#options.keep(schedule.name, { last: now.toISOString(), run: null });
        continue;
      }
      const [latest] = cronOf(schedule).previousRuns(1, new Date(now.getTime() + 1000));
      if (!latest || latest <= new Date(known.last) || addJitter(latest, schedule) > now) continue;
      await this.#startOne(schedule, latest, known, now);
    }
  }

  async #startOne(schedule: Schedule, at: Date, { run: before }: ScheduleState, now: Date): Promise<void> {
    const { keep, begin, isGoing, tell } = this.#options;
    const facts = { schedule: schedule.name, at: at.toISOString() };
    const isLate = now.getTime() - addJitter(at, schedule).getTime() > LATE_MS;
    const done = (run: string | null) => keep(schedule.name, { last: at.toISOString(), run });
    if (isLate && schedule.catch_up === 'none') {
      done(before);
      return tell('schedule-missed', facts);
    }
    if (before !== null && isGoing(before)) {
      done(before);
      return tell('schedule-skipped', { ...facts, run: before, why: 'its run before still goes on' });
    }
    // The same run for the same time: an agent that ends between its beginning and the note of it begins no second one.
    const run = `schedule-${createHash('sha256').update(`${schedule.name} ${facts.at}`).digest('hex').slice(0, 32)}`;
    try {
      await begin(schedule, run);
      tell('schedule-begun', { ...facts, run });
    } catch (error) {
      tell('schedule-failed', { ...facts, why: messageOf(error) });
    }
    done(run);
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

/** The time with its jitter: the same one for the same time, so that a restart changes nothing. */
function addJitter(at: Date, { name, jitter }: Schedule): Date {
  if (jitter === undefined) return at;
  const share = createHash('sha256').update(`${name} ${at.toISOString()}`).digest().readUInt32BE(0) / 2 ** 32;
  return new Date(at.getTime() + Math.floor(share * parseDuration(jitter)));
}
