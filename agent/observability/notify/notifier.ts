import type { CircuitBreakerPolicy } from 'cockatiel';
import { parseDuration } from '../../../intents/duration.ts';
import { messageOf } from '../../../protocol/refusal.ts';
import type { NotifyConfig } from '../../config/notify.ts';
import { type Channel, type NoticeEvent, SEVERITIES, type Severity } from '../../config/notify.ts';
import { parseWindow, remainingTime } from '../../config/time-windows.ts';
import { matchesPattern } from '../../config/trust.ts';
import type { NoticeQueue, QueuedNotice } from '../../store/notice-queue.ts';
import { createDigestNotice, nextDigest } from './digest.ts';
import { keyOf, Notice } from './notice.ts';
import { ChannelRejected, RetryLater, sendNotice } from './send-notice.ts';

/** A notice that matches every given condition goes to `channels`. */
interface NotifyRule {
  channels: string[];
  on?: NoticeEvent[] | undefined;
  stacks?: string[] | undefined;
  min_severity?: Severity | undefined;
}

export interface NotifierOptions {
  config: () => NotifyConfig;
  queue: NoticeQueue;
  /** Counts the outcome of a notice: `sent`, `failed`, `dropped`, `folded`. */
  count: (channel: string, outcome: string) => void;
  /** Writes a line to the agent's log; never an address. */
  say: (line: string) => void;
  now?: () => number;
}

/** Notices that wait for one channel; more are dropped and counted. */
const MAX_WAITING = 500;
const MAX_TRIES = 10;
const FIRST_PAUSE_MS = 5_000;
const MAX_PAUSE_MS = 3_600_000;
const POLL_MS = 1_000;

/** Consecutive failures that open a channel's circuit breaker, and the time until the next try. */
const OPEN_AFTER = 5;
const HALF_OPEN_AFTER_MS = 60_000;

/**
 * Sends notices in the background: they are queued on the disk and retried, and never delay a run. Repeats of the same
 * notice are folded and counted.
 */
export class Notifier {
  readonly #options: NotifierOptions;
  readonly #now: () => number;
  readonly #breakers = new Map<string, CircuitBreakerPolicy>();
  /** Recent notices by channel and key: the time up to which repeats are folded, and their number. */
  readonly #folded = new Map<string, { until: number; count: number }>();
  readonly #sending = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.sendDue(), POLL_MS);
    this.#timer.unref();
  }

  /** Waits for the notices that are being sent; the others wait for the next agent. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await Promise.all(this.#sending.values());
  }

  /** Queues a notice for each channel that a rule names. Throws only if the queue cannot be written. */
  notify(event: Notice): void {
    const { config, queue, count } = this.#options;
    const { rules, channels, fold } = config();
    const names = new Set(rules.filter(rule => matchesRule(rule, event)).flatMap(rule => rule.channels));
    for (const channel of channels) {
      const { name } = channel;
      if (!names.has(name)) continue;
      const digest = 'digest' in channel ? channel.digest : undefined;
      const notice = digest ? event : this.#fold(name, event, parseDuration(fold));
      if (!notice) count(name, 'folded');
      else if (queue.count(name) >= MAX_WAITING) count(name, 'dropped');
      else {
        const next = digest ? nextDigest(digest, this.#now()) : this.#now() + this.#quietTime(notice);
        queue.add(name, next, JSON.stringify(notice));
      }
    }
  }

  /** Returns the state of each channel's circuit breaker: 0 closed, 1 open, 0.5 half-open. */
  circuits(): { name: string; state: number }[] {
    return this.#options.config().channels.map(({ name }) => ({ name, state: stateOf(this.#breakers.get(name)) }));
  }

  /** Sends the notices that are due, one at a time per channel. Channels do not wait for each other. */
  sendDue(): void {
    for (const channel of this.#options.config().channels) {
      if (this.#sending.has(channel.name)) continue;
      const isDigest = 'digest' in channel && channel.digest !== undefined;
      const due = this.#options.queue.due(channel.name, this.#now(), isDigest ? MAX_WAITING : 1);
      if (due.length === 0) continue;
      const sending = this.#send(channel, due)
        .catch((error: unknown) => console.error(`notices to ${channel.name}:`, error))
        .finally(() => this.#sending.delete(channel.name));
      this.#sending.set(channel.name, sending);
    }
  }

  /** Sends a test notice now to one channel or to all, without retries. Returns the problem of each. */
  async testAll(name: string | undefined, agent: string): Promise<{ channel: string; problem: string | null }[]> {
    const names = name === undefined ? this.#options.config().channels.map(channel => channel.name) : [name];
    const facts = {
      agent,
      at: new Date(this.#now()).toISOString(),
      title: 'a test notice',
      text: 'Nothing happened.',
    };
    return Promise.all(
      names.map(async channel => {
        try {
          await this.#test(channel, { event: 'succeeded', severity: 'info', count: 1, ...facts });
          return { channel, problem: null };
        } catch (error) {
          return { channel, problem: messageOf(error) };
        }
      }),
    );
  }

  async #test(name: string, notice: Notice): Promise<void> {
    const channel = this.#options.config().channels.find(other => other.name === name);
    if (!channel) throw new Error(`There is no channel "${name}" under notify in agent.yaml.`);
    await sendNotice(channel, notice);
  }

  /** Sends one notice, or all of a digest together. */
  async #send(channel: Channel, waiting: QueuedNotice[]): Promise<void> {
    const { queue, count, say } = this.#options;
    const tries = Math.max(...waiting.map(notice => notice.tries));
    const remove = (outcome: string) => {
      for (const { id } of waiting) {
        queue.remove(id);
        count(channel.name, outcome);
      }
    };
    const cockatiel = await loadCockatiel();
    try {
      const notice = createDigestNotice(waiting.map(queued => Notice.parse(JSON.parse(queued.notice))));
      await this.#breaker(channel.name, cockatiel).execute(() => sendNotice(channel, notice));
      remove('sent');
    } catch (error) {
      const isLast = error instanceof ChannelRejected || tries + 1 >= MAX_TRIES;
      const isOpen = error instanceof cockatiel.BrokenCircuitError;
      if (isLast && !isOpen) {
        remove('failed');
        return say(`notice to ${channel.name} failed, no more retries: ${messageOf(error)}`);
      }
      const retryAfter = error instanceof RetryLater ? error.seconds * 1_000 : 0;
      const pause = isOpen
        ? HALF_OPEN_AFTER_MS
        : Math.min(Math.max(FIRST_PAUSE_MS * 2 ** tries, retryAfter), MAX_PAUSE_MS);
      for (const { id } of waiting) queue.retry(id, isOpen ? tries : tries + 1, this.#now() + pause);
      if (!isOpen) say(`notice to ${channel.name}: ${messageOf(error)}; next try in ${Math.round(pause / 1000)} s`);
    }
  }

  /** Returns the rest of the quiet hours in milliseconds; 0 outside of them, and for an error. */
  #quietTime({ severity }: Notice): number {
    const { quiet_hours } = this.#options.config();
    const window = quiet_hours === undefined || severity === 'error' ? undefined : parseWindow(quiet_hours);
    return window ? remainingTime(window, new Date(this.#now())) : 0;
  }

  /** Returns undefined for a repeat. The first notice after `time` milliseconds has the number of repeats. */
  #fold(channel: string, notice: Notice, time: number): Notice | undefined {
    const now = this.#now();
    const key = `${channel} ${keyOf(notice)}`;
    const recent = this.#folded.get(key);
    // Each success is sent.
    if (notice.severity === 'info') return notice;
    if (recent && now < recent.until) {
      recent.count++;
      return undefined;
    }
    this.#folded.set(key, { until: now + time, count: 0 });
    for (const [old, { until, count }] of this.#folded) if (until < now && count === 0) this.#folded.delete(old);
    return recent && recent.count > 0 ? { ...notice, count: recent.count + 1 } : notice;
  }

  #breaker(name: string, { circuitBreaker, ConsecutiveBreaker, handleAll }: Cockatiel): CircuitBreakerPolicy {
    const breaker =
      this.#breakers.get(name) ??
      circuitBreaker(handleAll, { halfOpenAfter: HALF_OPEN_AFTER_MS, breaker: new ConsecutiveBreaker(OPEN_AFTER) });
    this.#breakers.set(name, breaker);
    return breaker;
  }
}

type Cockatiel = typeof import('cockatiel');

/** Loaded only for the first notice, to save memory. */
function loadCockatiel(): Promise<Cockatiel> {
  return import(/* webpackMode: "eager" */ 'cockatiel');
}

/** Maps cockatiel's states: closed, open, half-open. The fourth, isolated, is never used. */
function stateOf(breaker: CircuitBreakerPolicy | undefined): number {
  return [0, 1, 0.5][breaker?.state ?? 0] ?? 1;
}

function matchesRule(
  { on, stacks, min_severity: minimum }: NotifyRule,
  { event, stack = '', severity }: Notice,
): boolean {
  return (
    (on === undefined || on.includes(event)) &&
    (stacks === undefined || stacks.some(pattern => matchesPattern(pattern, stack))) &&
    (minimum === undefined || SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(minimum))
  );
}
