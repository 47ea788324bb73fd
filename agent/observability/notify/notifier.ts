import type { CircuitBreakerPolicy } from 'cockatiel';
import { parseDuration } from '../../../intents/duration.ts';
import { messageOf } from '../../../protocol/refusal.ts';
import { type Channel, type NoticeEvent, SEVERITIES, type Severity } from '../../config/notify.ts';
import { parseWindow, remainingTime } from '../../config/time-windows.ts';
import { matchesPattern } from '../../config/trust.ts';
import { sendRequest } from '../../outbound/http.ts';
import type { NoticeQueue, QueuedNotice } from '../../store/notice-queue.ts';
import { formatText, formatTitle, requestFor } from './channels.ts';
import { createDigestNotice, nextDigest } from './digest.ts';
import { formatSubject, sendMail } from './email.ts';
import { keyOf, Notice } from './notice.ts';
import { applyTemplate } from './template.ts';

/** Which notices go to which channels. What is not named is not asked. */
export interface NotifyRule {
  channels: string[];
  on?: NoticeEvent[] | undefined;
  stacks?: string[] | undefined;
  min_severity?: Severity | undefined;
}

export interface NotifyConfig {
  channels: Channel[];
  rules: NotifyRule[];
  fold: string;
  /** Meanwhile only errors are told; the rest waits until its end. */
  quiet_hours?: string | undefined;
}

export interface NotifierOptions {
  config: () => NotifyConfig;
  queue: NoticeQueue;
  /** What became of a notice: `sent`, `failed`, `dropped`, `folded`. */
  count: (channel: string, outcome: string) => void;
  /** For people who read the agent's log; never an address. */
  say: (line: string) => void;
  now?: () => number;
}

/** How many notices wait for one channel; more are dropped and counted. */
const MOST_WAITING = 500;
const MOST_TRIES = 10;
const TIMEOUT_MS = 10_000;
const FIRST_PAUSE = 5_000;
const LONGEST_PAUSE = 3_600_000;
const POLL_MS = 1_000;

/** After so many failures in a row a channel is left alone for that long. */
const OPEN_AFTER = 5;
const HALF_OPEN_AFTER = 60_000;

/** The channel says no, and will say no again. */
class ChannelRejected extends Error {}

/**
 * Tells people what happened, when it can: queued on the disk, tried again later, and never in a run's way. Repeats of the
 * same thing are folded and counted.
 */
export class Notifier {
  readonly #options: NotifierOptions;
  readonly #now: () => number;
  readonly #breakers = new Map<string, CircuitBreakerPolicy>();
  /** What was told of late: until when repeats are folded, and how many there were. */
  readonly #folded = new Map<string, { until: number; count: number }>();
  readonly #sending = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.look(), POLL_MS);
    this.#timer.unref();
  }

  /** What is being sent may come to its end; the rest waits for the next agent. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await Promise.all(this.#sending.values());
  }

  /** Queues a notice for each channel that a rule names. Throws only where the queue can't be written. */
  notify(given: Notice): void {
    const { config, queue, count } = this.#options;
    const { rules, channels, fold } = config();
    const wanted = new Set(rules.filter(rule => matchesRule(rule, given)).flatMap(rule => rule.channels));
    for (const channel of channels) {
      const { name } = channel;
      if (!wanted.has(name)) continue;
      const digest = 'digest' in channel ? channel.digest : undefined;
      const notice = digest ? given : this.#fold(name, given, parseDuration(fold));
      if (!notice) count(name, 'folded');
      else if (queue.count(name) >= MOST_WAITING) count(name, 'dropped');
      else {
        const next = digest ? nextDigest(digest, this.#now()) : this.#now() + this.#quiet(notice);
        queue.add(name, next, JSON.stringify(notice));
      }
    }
  }

  /** How each channel's circuit is: 0 closed, 1 open, 0.5 tried again. */
  circuits(): { name: string; state: number }[] {
    return this.#options.config().channels.map(({ name }) => ({ name, state: stateOf(this.#breakers.get(name)) }));
  }

  /** Sends what is due, one after the other for each channel. Channels don't wait for each other. */
  look(): void {
    for (const channel of this.#options.config().channels) {
      if (this.#sending.has(channel.name)) continue;
      const isDigest = 'digest' in channel && channel.digest !== undefined;
      const due = this.#options.queue.due(channel.name, this.#now(), isDigest ? MOST_WAITING : 1);
      if (due.length === 0) continue;
      const sending = this.#send(channel, due)
        .catch((error: unknown) => console.error(`notices to ${channel.name}:`, error))
        .finally(() => this.#sending.delete(channel.name));
      this.#sending.set(channel.name, sending);
    }
  }

  /** Sends a notice for a trial, at once and once: to one channel, or to each. Tells what was in the way. */
  async testAll(name: string | undefined, agent: string): Promise<{ channel: string; problem: string | null }[]> {
    const names = name === undefined ? this.#options.config().channels.map(one => one.name) : [name];
    const facts = {
      agent,
      at: new Date(this.#now()).toISOString(),
      title: 'a notice for a trial',
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

  /** Throws an Error that says why it could not. */
  async #test(name: string, notice: Notice): Promise<void> {
    const channel = this.#options.config().channels.find(one => one.name === name);
    if (!channel) throw new Error(`There is no channel "${name}" under notify in agent.yaml.`);
    await sendNotice(channel, notice);
  }

  /** Sends one, or all together. */
  async #send(channel: Channel, waiting: QueuedNotice[]): Promise<void> {
    const { queue, count, say } = this.#options;
    const tries = Math.max(...waiting.map(one => one.tries));
    const remove = (outcome: string) => {
      for (const { id } of waiting) {
        queue.remove(id);
        count(channel.name, outcome);
      }
    };
    const cockatiel = await loadCockatiel();
    try {
      const notice = createDigestNotice(waiting.map(one => Notice.parse(JSON.parse(one.notice))));
      await this.#breaker(channel.name, cockatiel).execute(() => sendNotice(channel, notice));
      remove('sent');
    } catch (error) {
      const isLast = error instanceof ChannelRejected || tries + 1 >= MOST_TRIES;
      const isOpen = error instanceof cockatiel.BrokenCircuitError;
      if (isLast && !isOpen) {
        remove('failed');
        return say(`notice to ${channel.name} given up: ${messageOf(error)}`);
      }
      const asked = error instanceof RetryLater ? error.seconds * 1_000 : 0;
      const pause = isOpen ? HALF_OPEN_AFTER : Math.min(Math.max(FIRST_PAUSE * 2 ** tries, asked), LONGEST_PAUSE);
      for (const { id } of waiting) queue.retry(id, isOpen ? tries : tries + 1, this.#now() + pause);
      if (!isOpen) say(`notice to ${channel.name}: ${messageOf(error)}; again in ${Math.round(pause / 1000)} s`);
    }
  }

  /** How long it is still quiet for such a notice, in milliseconds. */
  #quiet({ severity }: Notice): number {
    const { quiet_hours } = this.#options.config();
    const window = quiet_hours === undefined || severity === 'error' ? undefined : parseWindow(quiet_hours);
    return window ? remainingTime(window, new Date(this.#now())) : 0;
  }

  /** Undefined for a repeat. The first one after the time tells how many there were. */
  #fold(channel: string, notice: Notice, time: number): Notice | undefined {
    const now = this.#now();
    const key = `${channel} ${keyOf(notice)}`;
    const known = this.#folded.get(key);
    // What went well is told each time, and ends what did not.
    if (notice.severity === 'info') return notice;
    if (known && now < known.until) {
      known.count++;
      return undefined;
    }
    this.#folded.set(key, { until: now + time, count: 0 });
    for (const [old, { until, count }] of this.#folded) if (until < now && count === 0) this.#folded.delete(old);
    return known && known.count > 0 ? { ...notice, count: known.count + 1 } : notice;
  }

  #breaker(name: string, { circuitBreaker, ConsecutiveBreaker, handleAll }: Cockatiel): CircuitBreakerPolicy {
    const known =
      this.#breakers.get(name) ??
      circuitBreaker(handleAll, { halfOpenAfter: HALF_OPEN_AFTER, breaker: new ConsecutiveBreaker(OPEN_AFTER) });
    this.#breakers.set(name, known);
    return known;
  }
}

/** It asks to be left alone for a while. */
class RetryLater extends Error {
  readonly seconds: number;

  constructor(status: number, seconds: number) {
    super(`it answered ${status}`);
    this.seconds = seconds;
  }
}

async function sendNotice(channel: Channel, happened: Notice): Promise<void> {
  const notice = applyTemplate('template' in channel ? channel.template : undefined, happened);
  if (channel.type === 'email') return mail(channel, notice);
  const { status, retryAfter } = await sendRequest(requestFor(channel, notice), TIMEOUT_MS);
  if (status < 300) return;
  if (status === 429 || status >= 500 || status === 408) throw new RetryLater(status, retryAfter ?? 0);
  throw new ChannelRejected(`it answered ${status}`);
}

async function mail(channel: Extract<Channel, { type: 'email' }>, notice: Notice): Promise<void> {
  try {
    await sendMail(channel, { subject: formatSubject(formatTitle(notice)), text: formatText(notice) }, TIMEOUT_MS);
  } catch (error) {
    const { responseCode, code } = error as { responseCode?: number; code?: string };
    if (responseCode !== undefined && responseCode >= 500) throw new ChannelRejected(`it answered ${responseCode}`);
    throw new Error(responseCode === undefined ? (code ?? 'it can’t be reached') : `it answered ${responseCode}`);
  }
}

type Cockatiel = typeof import('cockatiel');

/** Not worth its memory where nobody is told anything. */
function loadCockatiel(): Promise<Cockatiel> {
  return import(/* webpackMode: "eager" */ 'cockatiel');
}

/** As cockatiel numbers its states: closed, open, half open; the last, isolated, is never used. */
function stateOf(breaker: CircuitBreakerPolicy | undefined): number {
  return [0, 1, 0.5][breaker?.state ?? 0] ?? 1;
}

function matchesRule(
  { on, stacks, min_severity: least }: NotifyRule,
  { event, stack = '', severity }: Notice,
): boolean {
  return (
    (on === undefined || on.includes(event)) &&
    (stacks === undefined || stacks.some(pattern => matchesPattern(pattern, stack))) &&
    (least === undefined || SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(least))
  );
}
