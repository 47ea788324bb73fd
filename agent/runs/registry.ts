import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeIntent } from '../../intents/intent.ts';
import type { Frame } from '../../protocol/event.ts';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { readmit } from '../admission/admit.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import { deployedKeys } from '../admission/coverage.ts';
import type { Executor } from '../executors/executor.ts';
import { isPlanKnown } from '../plan/describe.ts';
import { refusals } from '../refusals.ts';
import { shippedPath } from '../steps/run-folder.ts';
import type { RunStore } from '../store/runs.ts';
import { endInterruptedRun } from './interrupted.ts';
import { LockQueue } from './lock-queue.ts';
import { Run, type RunContext } from './run.ts';

export interface RunRegistryOptions extends Omit<RunContext, 'locks' | 'now'> {
  executors: Executor[];
  /** Maximum number of runs at the same time. */
  limit: number;
  now?: () => Date;
}

/** The caller that cancels a run, for the log and the audit log. */
export interface CancelRequester {
  /** The trust entry, or `local`. */
  trust: string;
  keyId: string;
  actor: string;
  address: string;
}

/** Limits beyond which ended runs are removed. */
export interface RetentionLimits {
  /** ISO 8601. */
  before: string;
  runs: number;
  bytes: number;
}

/** Number of frames that a follower reads from the store at once. */
const PAGE = 8;
/** Number of runs that are removed at once, so that other work gets its turn. */
const MAX_PRUNED = 100;

interface ActiveRun {
  run: Run;
  ended: Promise<void>;
}

/** Starts, cancels, follows and resumes runs. Holds those in progress; ended runs are in the store. */
export class RunRegistry {
  readonly store: RunStore;
  readonly #options: RunRegistryOptions;
  readonly #context: RunContext;
  readonly #active = new Map<string, ActiveRun>();
  readonly #locks: LockQueue;
  #isStopping = false;

  constructor(options: RunRegistryOptions) {
    this.#options = options;
    this.store = options.store;
    this.#locks = new LockQueue(options.limit);
    const now = options.now ?? (() => new Date());
    this.#context = { ...options, locks: this.#locks, now: () => now().toISOString() };
  }

  /** Number of runs that wait or execute. */
  inProgress(): number {
    return this.#active.size;
  }

  /** Number of runs that wait for their locks. */
  waiting(): number {
    return this.#locks.waiting;
  }

  /** Resumes the runs that were in progress when an earlier agent ended. Running ones come first and get their locks back. */
  resumeAll(): string[] {
    const open = this.store.open();
    const order = [
      ...open.filter(({ state }) => state === 'running'),
      ...open.filter(({ state }) => state === 'waiting'),
    ];
    for (const stored of order) {
      // An agent of the first version stored no steps, so nothing is known of what it did.
      const progress = this.store.progress(stored.id);
      const plans = [...progress.values()].flatMap(({ plan }) => plan ?? []);
      const isKnown = (stored.state === 'waiting' || stored.startedAt !== null) && plans.every(isPlanKnown);
      const admitted = isKnown ? readmit(stored, this.#options.executors) : undefined;
      if (!admitted) {
        void endInterruptedRun(stored, this.#context).catch((error: unknown) =>
          console.error(`run ${stored.id}: could not store its end:`, error),
        );
        continue;
      }
      const run = this.#start(admitted, progress);
      if (stored.cancel !== null) run.cancel();
    }
    return order.map(({ id }) => id);
  }

  /**
   * Starts a run, or joins the one of the same command. The run is stored when this returns.
   * Throws `Refused`: `id-reused`, `shutting-down`, `state-unwritable`.
   */
  begin(admitted: AdmittedCommand): { run: string; joined: boolean } {
    const { command, sender } = admitted;
    const digest = contentDigest(admitted);
    const known = this.store.find(command.id);
    if (known) {
      if (known.digest !== digest || known.trust !== sender.trust) throw new Refused(refusals.idReused(command.id));
      return { run: command.id, joined: true };
    }
    if (this.#isStopping) throw new Refused(refusals.shuttingDown());
    storeOrRefuse(() => this.#store(admitted, digest));
    this.#start(admitted);
    return { run: command.id, joined: false };
  }

  /** Cancels a run. The cancel is stored when this returns. Throws `Refused`: `run-unknown`, `run-ended`, `state-unwritable`. */
  cancel(id: string, by: CancelRequester): void {
    const stored = this.store.find(id);
    if (!stored) throw new Refused(refusals.runUnknown(id));
    if (stored.state === 'ended') throw new Refused(refusals.runEnded(id, stored.outcome ?? ''));
    if (stored.cancel === null) {
      storeOrRefuse(() => this.store.cancel(id, JSON.stringify(by)));
      for (const observer of this.#options.observers) logErrors('audit:', () => observer.cancelled?.(id, by));
      const from = by.actor === '' ? by.trust : `${by.actor} (${by.trust})`;
      this.#active.get(id)?.run.log.note('warning', `Cancelled by ${from}.`);
    }
    this.#active.get(id)?.run.cancel();
  }

  /**
   * Yields the frames after number `after` as they come, and last the receipt's. A slow reader takes no memory: the store
   * holds the frames.
   */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<Frame> {
    let last = after;
    while (!signal.aborted) {
      // Listen before reading, so that no event is missed in between.
      const log = this.#active.get(id)?.run.log;
      const nextEvent = log?.nextEvent(signal);
      const frames = log?.recentAfter(last) ?? this.store.frames(id, last, PAGE);
      for (const { n, frame } of frames) {
        yield frame;
        last = n;
      }
      if (frames.length > 0) continue;
      const stored = this.store.find(id);
      if (stored?.receipt && stored.events === last) {
        yield stored.receipt;
        return;
      }
      if (stored?.receipt && stored.events > last) continue;
      if (!nextEvent) return;
      await nextEvent;
    }
  }

  /** Removes ended runs beyond the limits, with their folders. Returns their number. */
  async prune(limits: RetentionLimits): Promise<number> {
    let count = 0;
    for (;;) {
      const ids = this.store.findPrunable(limits, MAX_PRUNED);
      for (const id of ids) {
        if (this.#isStopping) return count;
        await rm(join(this.#options.folder, id), { recursive: true, force: true });
        this.store.delete(id);
        count++;
      }
      if (ids.length < MAX_PRUNED) return count;
    }
  }

  /** Refuses new runs and detaches those in progress: their processes continue, and the next agent resumes them. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const { run } of this.#active.values()) run.detach();
    await Promise.all([...this.#active.values()].map(active => active.ended));
  }

  #start(admitted: AdmittedCommand, earlier?: Parameters<Run['execute']>[0]): Run {
    const run = new Run(this.#context, admitted);
    const active: ActiveRun = { run, ended: Promise.resolve() };
    this.#active.set(run.id, active);
    active.ended = run
      .execute(earlier)
      // Neither its events nor its end can be stored: the next agent resumes it from the store.
      .catch((error: unknown) => console.error(`run ${run.id}: abandoned by this agent:`, error))
      .finally(() => {
        this.#active.delete(run.id);
        run.log.wakeFollowers();
      });
    return run;
  }

  /** Stores a new run, and writes the files that it ships into its folder. */
  #store({ command, sender, documents }: AdmittedCommand, digest: string): void {
    const runDir = join(this.#options.folder, command.id);
    mkdirSync(join(runDir, 'shipped'), { recursive: true, mode: 0o700 });
    for (const file of command.files) {
      writeFileSync(shippedPath(runDir, file.sha256), Buffer.from(file.content, 'base64'), { mode: 0o600 });
    }
    const { files, ...rest } = command;
    const keys = deployedKeys(command);
    const [first] = documents;
    const more = documents.length > 1 ? ` and ${documents.length - 1} more` : '';
    this.store.begin({
      id: command.id,
      digest,
      type: command.type,
      trust: sender.trust,
      keyId: sender.keyId,
      address: sender.address,
      command: JSON.stringify({ ...rest, files: files.map(({ content, ...file }) => file) }),
      title: `${first ? describeIntent(first.document.intent) : ''}${more}`,
      at: this.#context.now(),
      ...(keys.length > 0 ? { deploys: { sha: command.origin.sha, keys } } : {}),
    });
  }
}

/** A cancel is valid as soon as it is stored, even if its audit row cannot be written. */
function logErrors(prefix: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    console.error(prefix, error);
  }
}

function storeOrRefuse(work: () => void): void {
  try {
    work();
  } catch (error) {
    throw new Refused(refusals.stateUnwritable(messageOf(error)));
  }
}

/** Returns a digest of the command without its challenge and time: it stays the same when the command is sent again. */
function contentDigest({ command }: AdmittedCommand): string {
  const { challenge, issued_at, ...content } = command;
  return createHash('sha256').update(JSON.stringify(content)).digest('hex');
}
