import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Frame } from '../protocol/event.ts';
import type { SecretKey } from '../protocol/keys.ts';
import { Refused } from '../protocol/refusal.ts';
import type { Admitted } from './admitted.ts';
import { carryOut, describeStep, type Hands, type Told } from './carry-out.ts';
import type { Shipped, Site } from './executors/executor.ts';
import { shippedPath } from './hands.ts';
import { Locks } from './locks.ts';
import { blindLook } from './look.ts';
import { CannotPlan, type Look, type Plan } from './plan.ts';
import { type DocumentEnding, makeReceipt, signReceipt } from './receipts.ts';
import { refusals } from './refusals.ts';
import type { Store, StoredRun } from './store.ts';
import type { Watcher } from './watcher.ts';

export interface RunsOptions {
  agent: string;
  key: SecretKey;
  store: Store;
  /** `<state_dir>/runs`: one folder a run. */
  folder: string;
  site: () => Site;
  look: Look;
  hands: (runDir: string) => Hands;
  watchers: Watcher[];
  /** How many runs go on side by side. */
  limit: number;
  now?: () => Date;
}

/** How many frames a follower reads from the store at once. */
const PAGE = 8;
/** How many of the newest frames are kept at hand for followers that keep up. */
const RECENT = 8;

interface Active {
  admitted: Admitted;
  abort: AbortController;
  /** Wakes the followers. */
  wake: Set<() => void>;
  /** The newest frames, so that they need not be made again from the store. */
  recent: { n: number; frame: Frame }[];
  ended: Promise<void>;
}

/** Runs in flight, and the way to everything that the store knows of earlier ones. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #active = new Map<string, Active>();
  readonly #locks: Locks;
  #stopping = false;

  /** Runs that were in flight when an earlier agent ended are closed as `interrupted`. */
  constructor(options: RunsOptions) {
    this.#options = options;
    this.#locks = new Locks(options.limit);
    for (const run of options.store.open()) this.#interrupt(run);
  }

  /** Starts a run, or joins the one of the same command. Stored when this returns. Throws `Refused`: `id-reused`, `shutting-down`. */
  begin(admitted: Admitted): { run: string; joined: boolean } {
    const { command, sender } = admitted;
    const digest = contentDigest(admitted);
    const known = this.#options.store.find(command.id);
    if (known) {
      if (known.digest !== digest || known.trust !== sender.trust) throw new Refused(refusals.idReused(command.id));
      return { run: command.id, joined: true };
    }
    if (this.#stopping) throw new Refused(refusals.shuttingDown());
    try {
      this.#record(admitted, digest);
    } catch (error) {
      throw new Refused(refusals.stateUnwritable(error instanceof Error ? error.message : String(error)));
    }
    const active: Active = {
      admitted,
      abort: new AbortController(),
      wake: new Set(),
      recent: [],
      ended: Promise.resolve(),
    };
    this.#active.set(command.id, active);
    for (const watcher of this.#options.watchers) watcher.begun?.(command.id, admitted);
    active.ended = this.#carry(active)
      // The store can't take the run's end: the next start closes it as interrupted.
      .catch((error: unknown) => console.error(`run ${command.id}: its end can't be stored:`, error))
      .finally(() => {
        this.#active.delete(command.id);
        wakeAll(active);
      });
    return { run: command.id, joined: false };
  }

  /** Frames after number `after`, live, and last the receipt's. A slow reader costs no memory: frames come from the store. */
  async *follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<Frame> {
    const { store } = this.#options;
    let last = after;
    while (!signal.aborted) {
      // Listening begins before reading, so that nothing falls between.
      const active = this.#active.get(id);
      const news = active ? nextNews(active, signal) : undefined;
      const frames = recentAfter(active, last) ?? store.frames(id, last, PAGE);
      for (const { n, frame } of frames) {
        yield frame;
        last = n;
      }
      if (frames.length > 0) continue;
      const found = store.find(id);
      if (found?.receipt && found.events === last) {
        yield found.receipt;
        return;
      }
      if (found?.receipt) continue;
      if (!news) return;
      await news;
    }
  }

  /** Which trust entry a run belongs to; undefined for an unknown run. */
  owner(id: string): string | undefined {
    return this.#options.store.find(id)?.trust;
  }

  inProgress(): number {
    return this.#active.size;
  }

  /** Takes no new runs, and returns when those in flight have ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#active.values()].map(active => active.ended));
  }

  /** Puts a new run into the store, and the files that it ships into its folder. */
  #record({ command, sender }: Admitted, digest: string): void {
    const runDir = join(this.#options.folder, command.id);
    mkdirSync(join(runDir, 'shipped'), { recursive: true, mode: 0o700 });
    for (const file of command.files) {
      writeFileSync(shippedPath(runDir, file.sha256), Buffer.from(file.content, 'base64'), { mode: 0o600 });
    }
    const { files, ...rest } = command;
    this.#options.store.begin({
      id: command.id,
      digest,
      type: command.type,
      trust: sender.trust,
      keyId: sender.keyId,
      address: sender.address,
      command: JSON.stringify({ ...rest, files: files.map(({ content, ...file }) => file) }),
      at: this.#now(),
    });
  }

  async #carry(active: Active): Promise<void> {
    const { command } = active.admitted;
    const startedAt = this.#now();
    const endings: DocumentEnding[] = [];
    const looksOnly = command.type === 'plan' || command.dry_run;
    const subjects = looksOnly ? [] : subjectsOf(active.admitted);
    try {
      const { turn, blockedBy } = this.#locks.take(command.id, subjects);
      if (blockedBy) this.#tell(active, { kind: 'waiting', for: blockedBy.run, what: blockedBy.subject });
      await turn;
      this.#options.store.running(command.id);
      for (const [index] of active.admitted.documents.entries()) {
        endings.push(await this.#document(active, index, looksOnly));
        const { outcome } = endings[index] ?? { outcome: 'failed' };
        if (outcome !== 'succeeded' && outcome !== 'planned') break;
      }
    } catch (error) {
      const said = error instanceof Error ? (error.stack ?? error.message) : String(error);
      console.error(`run ${command.id}: fault: ${said}`);
      endings.push({
        outcome: 'interrupted',
        code: 'fault',
        message: `The agent made a mistake of its own: ${error instanceof Error ? error.message : String(error)}`,
        remedy: 'Look at the host’s state and the agent’s log, and report this with the log.',
        changed: true,
      });
    } finally {
      this.#locks.release(command.id, subjects);
    }
    this.#finish(active, endings, startedAt);
  }

  async #document(active: Active, index: number, looksOnly: boolean): Promise<DocumentEnding> {
    const { admitted, abort } = active;
    const { store, site, hands } = this.#options;
    const entry = admitted.documents[index];
    if (!entry) throw new Error(`No document ${index}`);
    const number = index + 1;
    const look = admitted.command.dry_run ? blindLook : this.#options.look;
    let plan: Plan;
    try {
      const files = shippedFor(admitted, entry.document.intent);
      const context = { document: entry.document, site: site(), files, compare: looksOnly };
      plan = await entry.executor.plan(entry.document.intent, context, look);
    } catch (error) {
      if (!(error instanceof CannotPlan)) throw error;
      const { code, message, remedy } = error;
      this.#tell(active, { kind: 'document-finished', document: number, outcome: 'failed', code, message });
      return { outcome: 'failed', code, message, remedy, changed: false };
    }
    store.plan(admitted.command.id, number, JSON.stringify(plan));
    for (const watcher of this.#options.watchers) watcher.planned?.(admitted.command.id, number, plan, admitted);
    this.#tell(active, {
      kind: 'planned',
      document: number,
      title: plan.title,
      summary: plan.summary,
      steps: plan.steps.map(step => ({ name: step.name, text: describeStep(step) })),
      changes: plan.changes,
    });
    if (looksOnly) {
      this.#tell(active, { kind: 'document-finished', document: number, outcome: 'planned' });
      return { outcome: 'planned', changed: false };
    }
    const runDir = join(this.#options.folder, admitted.command.id);
    const work = carryOut(plan, { document: number, hands: hands(runDir), signal: abort.signal });
    let next = await work.next();
    for (; !next.done; next = await work.next()) this.#tell(active, next.value);
    const ending = next.value;
    this.#tell(active, {
      kind: 'document-finished',
      document: number,
      outcome: ending.outcome,
      ...(ending.code === undefined ? {} : { code: ending.code }),
      ...(ending.message === undefined ? {} : { message: ending.message }),
    });
    return ending;
  }

  #tell(active: Active, told: Told): void {
    const { id } = active.admitted.command;
    const { event, frame } = this.#options.store.append(id, told, this.#now());
    active.recent.push({ n: event.n, frame });
    if (active.recent.length > RECENT) active.recent.shift();
    for (const watcher of this.#options.watchers) watcher.happened?.(id, event, active.admitted);
    wakeAll(active);
  }

  #finish(active: Active, endings: DocumentEnding[], startedAt: string): void {
    const { store, agent, key, watchers } = this.#options;
    const { id } = active.admitted.command;
    const { events, head } = store.find(id) ?? { events: 0, head: '' };
    const receipt = makeReceipt(active.admitted, agent, endings, { events, head, startedAt, finishedAt: this.#now() });
    store.end(id, receipt.outcome, signReceipt(receipt, key), receipt.finished_at);
    for (const watcher of watchers) watcher.ended?.(id, receipt, active.admitted);
  }

  /** The last word on a run whose agent ended: nobody watched its steps to their end. */
  #interrupt(run: StoredRun): void {
    const { store, agent, key } = this.#options;
    const { event } = store.append(
      run.id,
      { kind: 'note', level: 'error', text: 'The agent ended while this run was in flight.' },
      this.#now(),
    );
    const { events, head } = store.find(run.id) ?? { events: event.n, head: '' };
    const finishedAt = this.#now();
    const receipt = signReceipt(
      {
        run: run.id,
        agent,
        outcome: 'interrupted',
        reason: 'agent-ended',
        message: `The agent ended while this run was ${run.state}. What its last step did is not known.`,
        remedy: 'Look at the stack on the host ("docker compose ps -a" in its folder), then run the intent again.',
        changed: run.state === 'running',
        documents: [],
        events,
        events_digest: head,
        started_at: run.createdAt,
        finished_at: finishedAt,
      },
      key,
    );
    store.end(run.id, 'interrupted', receipt, finishedAt);
  }

  #now(): string {
    return (this.#options.now?.() ?? new Date()).toISOString();
  }
}

/** What makes two commands with the same id the same: all but what each sending of it makes anew. */
function contentDigest({ command }: Admitted): string {
  const { challenge, issued_at, ...content } = command;
  return createHash('sha256').update(JSON.stringify(content)).digest('hex');
}

function subjectsOf(admitted: Admitted): string[] {
  return [...new Set(admitted.documents.map(({ document, executor }) => executor.subject(document.intent)))].sort();
}

function shippedFor(admitted: Admitted, intent: object): Shipped[] {
  if (!('source_dir' in intent) || intent.source_dir === undefined || !('stack' in intent)) return [];
  return admitted.command.files
    .filter(file => file.stack === intent.stack)
    .map(({ path, mode, sha256 }) => ({ path, mode, sha256 }));
}

/** The frames after number `last`, where all of them are at hand. */
function recentAfter(active: Active | undefined, last: number): { n: number; frame: Frame }[] | undefined {
  const first = active?.recent.findIndex(({ n }) => n === last + 1) ?? -1;
  return first < 0 ? undefined : active?.recent.slice(first);
}

function wakeAll(active: Active): void {
  for (const wake of active.wake) wake();
  active.wake.clear();
}

function nextNews(active: Active, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    active.wake.add(done);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done);
  });
}
