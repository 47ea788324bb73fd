import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeIntent } from '../../intents/intent.ts';
import type { Frame } from '../../protocol/event.ts';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { readmit } from '../admission/admit.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { Executor } from '../executors/executor.ts';
import { type ListedContainer, projectContainersPath } from '../outbound/docker.ts';
import { refusals } from '../refusals.ts';
import { shippedPath } from '../steps/run-folder.ts';
import type { ListedRun, RunStore, StoredRun } from '../store/runs.ts';
import { LockQueue } from './lock-queue.ts';
import { signReceipt } from './receipt.ts';
import { Run, type RunContext } from './run.ts';

export interface RunRegistryOptions extends Omit<RunContext, 'locks' | 'now'> {
  executors: Executor[];
  /** How many runs go on side by side. */
  limit: number;
  now?: () => Date;
}

/** Who asks for a run's end: for the log and the audit. */
export interface CancelRequester {
  /** The trust entry, or `local`. */
  trust: string;
  keyId: string;
  actor: string;
  address: string;
}

/** How much is kept of runs that have ended. */
export interface Retention {
  /** ISO 8601. */
  before: string;
  runs: number;
  bytes: number;
}

/** How many frames a follower reads from the store at once. */
const PAGE = 8;
/** How many runs are taken out at once: others must get a turn. */
const MAX_PRUNED = 100;

interface ActiveRun {
  run: Run;
  ended: Promise<void>;
}

/** Runs in flight, and the way to everything that the store knows of earlier ones. */
export class RunRegistry {
  readonly #options: RunRegistryOptions;
  readonly #context: RunContext;
  readonly #store: RunStore;
  readonly #active = new Map<string, ActiveRun>();
  readonly #locks: LockQueue;
  #stopping = false;

  constructor(options: RunRegistryOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#locks = new LockQueue(options.limit);
    const now = options.now ?? (() => new Date());
    this.#context = { ...options, locks: this.#locks, now: () => now().toISOString() };
  }

  /** Takes up the runs that were in flight when an earlier agent ended, in their order: what ran holds its lock again. */
  resumeAll(): string[] {
    const open = this.#store.open();
    const order = [
      ...open.filter(({ state }) => state === 'running'),
      ...open.filter(({ state }) => state === 'waiting'),
    ];
    for (const stored of order) {
      // An agent of the first version wrote down no steps: what it had done is not known.
      const isKnown = stored.state === 'waiting' || stored.startedAt !== null;
      const admitted = isKnown ? readmit(stored, this.#options.executors) : undefined;
      if (!admitted) {
        void this.#interrupt(stored).catch((error: unknown) =>
          console.error(`run ${stored.id}: its end can't be stored:`, error),
        );
        continue;
      }
      const run = this.#start(admitted, this.#store.progress(stored.id));
      if (stored.cancel !== null) run.cancel();
    }
    return order.map(({ id }) => id);
  }

  /** Starts a run, or joins the one of the same command. Stored when this returns. Throws `Refused`: `id-reused`, `shutting-down`. */
  begin(admitted: AdmittedCommand): { run: string; joined: boolean } {
    const { command, sender } = admitted;
    const digest = contentDigest(admitted);
    const known = this.#store.find(command.id);
    if (known) {
      if (known.digest !== digest || known.trust !== sender.trust) throw new Refused(refusals.idReused(command.id));
      return { run: command.id, joined: true };
    }
    if (this.#stopping) throw new Refused(refusals.shuttingDown());
    try {
      this.#record(admitted, digest);
    } catch (error) {
      throw new Refused(refusals.stateUnwritable(messageOf(error)));
    }
    this.#start(admitted);
    return { run: command.id, joined: false };
  }

  /** Asks a run to end. Durable when this returns. Throws `Refused`: `run-unknown`, `run-ended`, `state-unwritable`. */
  cancel(id: string, by: CancelRequester): void {
    const stored = this.#store.find(id);
    if (!stored) throw new Refused(refusals.runUnknown(id));
    if (stored.state === 'ended') throw new Refused(refusals.runEnded(id, stored.outcome ?? ''));
    if (stored.cancel === null) {
      this.#storeOrRefuse(() => this.#store.cancel(id, JSON.stringify(by)));
      for (const watcher of this.#options.observers) this.#bestEffort(() => watcher.cancelled?.(id, by));
      this.#active.get(id)?.run.note('warning', `Cancelled by ${by.actor || 'somebody'} (${by.trust}).`);
    }
    this.#active.get(id)?.run.cancel();
  }

  /** Frames after number `after`, live, and last the receipt's. A slow reader costs no memory: frames come from the store. */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<Frame> {
    let last = after;
    while (!signal.aborted) {
      // Listening begins before reading, so that nothing falls between.
      const run = this.#active.get(id)?.run;
      const news = run?.nextEvent(signal);
      const frames = run?.recentAfter(last) ?? this.#store.frames(id, last, PAGE);
      for (const { n, frame } of frames) {
        yield frame;
        last = n;
      }
      if (frames.length > 0) continue;
      const found = this.#store.find(id);
      if (found?.receipt && found.events === last) {
        yield found.receipt;
        return;
      }
      if (found?.receipt && found.events > last) continue;
      if (!news) return;
      await news;
    }
  }

  /** Undefined for an unknown run. */
  find(id: string): StoredRun | undefined {
    return this.#store.find(id);
  }

  /** The newest first; with `trust` those of that entry only. */
  list(limit: number, before?: string, trust?: string): ListedRun[] {
    return this.#store.list(limit, before, trust);
  }

  /** How many runs (not plans) have begun under an entry of trust since a time (ISO 8601). */
  countSince(trust: string, since: string): number {
    return this.#store.countSince(trust, since);
  }

  inProgress(): number {
    return this.#active.size;
  }

  /** How many wait for their turn. */
  waiting(): number {
    return this.#locks.waiting;
  }

  /** Takes out runs that have ended and are surplus, with their folders. Returns how many. */
  async prune(limits: Retention): Promise<number> {
    let count = 0;
    for (;;) {
      const ids = this.#store.surplus(limits, MAX_PRUNED);
      for (const id of ids) {
        if (this.#stopping) return count;
        await rm(join(this.#options.folder, id), { recursive: true, force: true });
        this.#store.forget(id);
        count++;
      }
      if (ids.length < MAX_PRUNED) return count;
    }
  }

  /** Takes no new runs and lets go of those in flight: their processes go on, and the next agent takes them up. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const { run } of this.#active.values()) run.detach();
    await Promise.all([...this.#active.values()].map(active => active.ended));
  }

  #start(admitted: AdmittedCommand, past?: Parameters<Run['execute']>[0]): Run {
    const run = new Run(this.#context, admitted);
    const active: ActiveRun = { run, ended: Promise.resolve() };
    this.#active.set(run.id, active);
    active.ended = run
      .execute(past)
      // Neither the run nor its end can be stored: the next agent takes it up from where the store is.
      .catch((error: unknown) => console.error(`run ${run.id}: given up by this agent:`, error))
      .finally(() => {
        this.#active.delete(run.id);
        run.wakeFollowers();
      });
    return run;
  }

  /** Puts a new run into the store, and the files that it ships into its folder. */
  #record({ command, sender, documents }: AdmittedCommand, digest: string): void {
    const runDir = join(this.#options.folder, command.id);
    mkdirSync(join(runDir, 'shipped'), { recursive: true, mode: 0o700 });
    for (const file of command.files) {
      writeFileSync(shippedPath(runDir, file.sha256), Buffer.from(file.content, 'base64'), { mode: 0o600 });
    }
    const { files, ...rest } = command;
    const [first] = documents;
    const more = documents.length > 1 ? ` and ${documents.length - 1} more` : '';
    this.#store.begin({
      id: command.id,
      digest,
      type: command.type,
      trust: sender.trust,
      keyId: sender.keyId,
      address: sender.address,
      command: JSON.stringify({ ...rest, files: files.map(({ content, ...file }) => file) }),
      title: `${first ? describeIntent(first.document.intent) : ''}${more}`,
      at: this.#context.now(),
    });
  }

  /** The cancel is stored and counts, also where its audit line can't be written. */
  #bestEffort(work: () => void): void {
    try {
      work();
    } catch (error) {
      console.error('audit:', error);
    }
  }

  #storeOrRefuse(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw new Refused(refusals.stateUnwritable(messageOf(error)));
    }
  }

  /** The last word on a run that this agent can't take up: what the host is like now, as far as can be seen. */
  async #interrupt(run: StoredRun): Promise<void> {
    const { agent, keys } = this.#options;
    const state = await this.#describeHost(run);
    const now = this.#context.now();
    const text = `The agent ended while this run was in flight, and this version can’t take it up. ${state}`;
    this.#store.append(run.id, { kind: 'note', level: 'error', text }, now);
    const { events, head } = this.#store.find(run.id) ?? run;
    const receipt = signReceipt(
      {
        run: run.id,
        agent,
        outcome: 'interrupted',
        reason: 'agent-ended',
        message: `The agent ended while this run was ${run.state}, and this version can't take it up. What its last step did is not known. ${state}`,
        remedy: 'Look at the stack on the host ("docker compose ps -a" in its folder), then run the intent again.',
        changed: run.state === 'running',
        documents: [],
        events,
        events_digest: head,
        started_at: run.createdAt,
        finished_at: now,
      },
      keys(),
    );
    this.#store.end(run.id, 'interrupted', receipt, now);
  }

  /** Each container of the run's stacks, and how it is. */
  async #describeHost(run: StoredRun): Promise<string> {
    const { intents = [] } = JSON.parse(run.command) as { intents?: { intent?: { stack?: unknown } }[] };
    const stacks = new Set(intents.flatMap(({ intent }) => (typeof intent?.stack === 'string' ? [intent.stack] : [])));
    const told: string[] = [];
    for (const stack of stacks) {
      const listed = await this.#options.look
        .engine(projectContainersPath({ dir: `${this.#options.site().stacksRoot}/${stack}` }))
        .catch(() => undefined);
      const containers = (listed ?? []) as ListedContainer[];
      const each = containers.map(({ Names, Status }) => `${Names[0]?.slice(1)} (${Status})`);
      told.push(`${stack}: ${listed === undefined ? 'the engine does not answer' : each.join(', ') || 'no container'}`);
    }
    return told.length === 0 ? '' : `Now there are: ${told.join('; ')}.`;
  }
}

/** What makes two commands with the same id the same: all but what each sending of it makes anew. */
function contentDigest({ command }: AdmittedCommand): string {
  const { challenge, issued_at, ...content } = command;
  return createHash('sha256').update(JSON.stringify(content)).digest('hex');
}
