import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Event, Frame } from '../protocol/event.ts';
import type { SecretKey } from '../protocol/keys.ts';
import type { Admitted } from './admitted.ts';
import { carryOut, type Hands, type Told } from './carry-out.ts';
import { describeStep } from './describe.ts';
import type { Site } from './executors/executor.ts';
import { knownAfter } from './known-backups.ts';
import type { Locks } from './locks.ts';
import { blindLook } from './look.ts';
import { PATIENCE_OVER, patienceEnds, patienceOf, stillLocked } from './patience.ts';
import { CannotPlan, type Look, type Plan } from './plan.ts';
import { digestOfPlans, planChanged } from './plan-digest.ts';
import { type DocumentEnding, makeReceipt, signReceipt } from './receipts.ts';
import { Redactor } from './redact.ts';
import { learnSecrets } from './secrets/learn.ts';
import { redacted, withWords } from './secrets/words.ts';
import { shippedFor, shippedPath } from './shipped.ts';
import type { DocumentPast, Store } from './store.ts';
import type { Watcher } from './watcher.ts';

/** What a run needs of its agent. */
export interface RunContext {
  agent: string;
  /** With which receipts are signed. */
  keys: () => readonly SecretKey[];
  store: Store;
  /** `<state_dir>/runs`: one folder a run. */
  folder: string;
  site: () => Site;
  look: Look;
  hands: (runDir: string, redactor: Redactor) => Hands & { end(): void };
  /** What must not be told of this host, beside what stands in a stack's files; and names in these whose values may be. */
  secrets?: () => { own: string[]; shown: string[] };
  watchers: Watcher[];
  /** The audit's head, which receipts carry out of the host. */
  audit?: () => { n: number; digest: string };
  locks: Locks;
  now: () => string;
}

/** How many of the newest frames are kept at hand for followers that keep up. */
const RECENT = 8;
/** How long to wait before a full or broken disk is tried again, in milliseconds. */
const STORE_PAUSE = 1_000;
/** SQLite's codes for what may pass: busy, I/O error, full, can't open. */
const PASSING_SQLITE = new Set([5, 10, 13, 14]);

/** The agent is being stopped: the run is left as it is, for the next one. */
class Left extends Error {}

/** One run being carried out: document by document, each planned when its turn comes. */
export class Run {
  readonly admitted: Admitted;
  /** Wakes the followers. */
  readonly #wake = new Set<() => void>();
  /** The newest frames, so that they need not be made again from the store. */
  readonly #recent: { n: number; frame: Frame }[] = [];
  readonly #context: RunContext;
  readonly #cancelled = new AbortController();
  readonly #redactor = new Redactor();
  /** Of a run that only looks. */
  readonly #plans: Plan[] = [];
  #isLeft = false;
  readonly #whenLeft = new Set<(left: Left) => void>();

  constructor(context: RunContext, admitted: Admitted) {
    this.#context = context;
    this.admitted = admitted;
  }

  get id(): string {
    return this.admitted.command.id;
  }

  /** Stops what it does, repairs and undoes it. */
  cancel(): void {
    this.#cancelled.abort();
  }

  /** Lets go of it: its processes go on, and the next agent takes it up. */
  leave(): void {
    this.#isLeft = true;
    for (const fail of this.#whenLeft) fail(new Left());
  }

  /** The frames after number `last`, where all of them are at hand. */
  recentAfter(last: number): { n: number; frame: Frame }[] | undefined {
    const first = this.#recent.findIndex(({ n }) => n === last + 1);
    return first < 0 ? undefined : this.#recent.slice(first);
  }

  /** Resolves when something has happened, or when `signal` says so. */
  news(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#wake.add(done);
      if (signal.aborted) done();
      else signal.addEventListener('abort', done);
    });
  }

  wakeAll(): void {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  /** Carries it out to its receipt, or until it is left. `past`: how far an earlier agent had come. */
  async carry(past?: Map<number, DocumentPast>): Promise<void> {
    const { locks, watchers } = this.#context;
    const subjects = this.#looksOnly ? [] : subjectsOf(this.admitted);
    try {
      const { secrets, site, folder } = this.#context;
      const known = { ...(secrets?.() ?? { own: [], shown: [] }), stacksRoot: site().stacksRoot };
      const warnings = await learnSecrets(this.#redactor, this.admitted, known, join(folder, this.id));
      for (const watcher of watchers)
        await this.#surely(() => (past ? watcher.resumed : watcher.begun)?.call(watcher, this.id, this.admitted));
      if (!past) for (const text of warnings) await this.#tell({ kind: 'note', level: 'warning', text });
      await this.#finish(await this.#take(subjects, past ?? new Map()));
    } catch (error) {
      if (!(error instanceof Left)) throw error;
    } finally {
      locks.release(this.id, subjects);
    }
  }

  /** Waits for the run's turn, and carries out its documents. */
  async #take(subjects: string[], past: Map<number, DocumentPast>): Promise<DocumentEnding[]> {
    const { locks, store } = this.#context;
    const endings: DocumentEnding[] = [];
    const { turn, blockedBy } = locks.take(this.id, subjects);
    if (blockedBy) await this.#tell({ kind: 'waiting', for: blockedBy.run, what: blockedBy.subject });
    const over = await Promise.race([
      this.#unlessLeft(turn),
      aborted(this.#cancelled.signal),
      patienceEnds(patienceOf(this.admitted), this.#cancelled.signal),
    ]);
    if (this.#cancelled.signal.aborted && past.size === 0) return [CANCELLED_WAITING];
    if (over === PATIENCE_OVER && past.size === 0) {
      const told = await this.#documentFinished(1, stillLocked(blockedBy));
      return [told];
    }
    await this.#surely(() => store.running(this.id, this.#context.now()));
    const hands = this.#looksOnly
      ? undefined
      : this.#context.hands(join(this.#context.folder, this.id), this.#redactor);
    try {
      const unlike = past.size === 0 ? await this.#unlikeItsPlan() : undefined;
      if (unlike) return [await this.#documentFinished(1, unlike)];
      for (const index of this.admitted.documents.keys()) {
        const ending = await this.#document(index, hands, past.get(index + 1));
        endings.push(ending);
        if (ending.outcome !== 'succeeded' && ending.outcome !== 'planned') break;
      }
    } catch (error) {
      if (error instanceof Left) throw error;
      console.error(`run ${this.id}: fault:`, this.#redactor.text(String((error as Error).stack ?? error)));
      endings.push(withWords(faultOf(error), this.#redactor));
    } finally {
      hands?.end();
    }
    return endings;
  }

  async #document(index: number, hands: Hands | undefined, past: DocumentPast | undefined): Promise<DocumentEnding> {
    const number = index + 1;
    if (past?.ending) return past.ending;
    if (this.#cancelled.signal.aborted && !past?.plan) return CANCELLED;
    let plan: Plan;
    try {
      plan = past?.plan ?? (await this.#unlessLeft(this.#plan(index)));
    } catch (error) {
      if (!(error instanceof CannotPlan)) throw error;
      const { code, message, remedy } = error;
      return this.#documentFinished(number, { outcome: 'failed', code, message, remedy, changed: false });
    }
    const shown = this.#redactor.all(plan);
    for (const watcher of this.#context.watchers) watcher.planned?.(this.id, number, shown, this.admitted);
    if (!past?.told) await this.#tellPlan(number, plan);
    if (!hands) return this.#documentFinished(number, { outcome: 'planned', changed: false });
    const rest = past ? { past: past.steps } : {};
    const work = carryOut(plan, { document: number, hands, signal: this.#cancelled.signal, ...rest });
    let next = await this.#unlessLeft(work.next());
    for (; !next.done; next = await this.#unlessLeft(work.next())) await this.#tell(next.value);
    const { restorePoints } = plan;
    return this.#documentFinished(number, { ...next.value, ...(restorePoints ? { restorePoints } : {}) });
  }

  async #plan(index: number): Promise<Plan> {
    const plan = await this.#makePlan(index, this.#looksOnly);
    await this.#surely(() => this.#context.store.plan(this.id, index + 1, plan));
    if (this.#looksOnly) this.#plans.push(plan);
    return plan;
  }

  /** Undefined where what would be done is what somebody has looked at, or nobody asks; or where it can't be planned, which its document tells. */
  async #unlikeItsPlan(): Promise<DocumentEnding | undefined> {
    const { plan_digest } = this.admitted.command;
    if (plan_digest === undefined || this.#looksOnly) return undefined;
    try {
      const plans: Plan[] = [];
      for (const index of this.admitted.documents.keys())
        plans.push(await this.#unlessLeft(this.#makePlan(index, true)));
      const digest = digestOfPlans(this.admitted, plans);
      return digest === plan_digest ? undefined : planChanged(plan_digest, digest);
    } catch (error) {
      if (error instanceof CannotPlan) return undefined;
      throw error;
    }
  }

  async #makePlan(index: number, compare: boolean): Promise<Plan> {
    const { site, store } = this.#context;
    const entry = this.admitted.documents[index];
    if (!entry) throw new Error(`No document ${index}`);
    const { intent } = entry.document;
    const look = this.admitted.command.dry_run ? blindLook : this.#context.look;
    const runDir = join(this.#context.folder, this.id);
    const files = shippedFor(this.admitted, intent).map(file => ({ ...file, at: shippedPath(runDir, file.sha256) }));
    return entry.executor.plan(
      intent,
      {
        document: entry.document,
        run: this.id,
        at: this.#context.now(),
        site: site(),
        files,
        compare,
        ...(this.#looksOnly ? {} : { backups: store.backups() }),
      },
      look,
    );
  }

  async #tellPlan(document: number, plan: Plan): Promise<void> {
    await this.#tell({
      kind: 'planned',
      document,
      title: plan.title,
      summary: plan.summary,
      steps: plan.steps.map(step => ({ name: step.name, text: describeStep(step) })),
      changes: plan.changes,
    });
  }

  async #documentFinished(document: number, ended: DocumentEnding): Promise<DocumentEnding> {
    const ending = withWords(ended, this.#redactor);
    const { outcome, code, message } = ending;
    if (outcome === 'skipped') return ending;
    if (outcome === 'succeeded') await this.#noteBackup(document, ending);
    await this.#tell(
      {
        kind: 'document-finished',
        document,
        outcome,
        ...(code === undefined ? {} : { code }),
        ...(message === undefined ? {} : { message }),
      },
      ending,
    );
    return ending;
  }

  /** From now on a rollout of this run can stand on it. */
  async #noteBackup(document: number, ending: DocumentEnding): Promise<void> {
    const { store, now } = this.#context;
    const name = this.admitted.documents[document - 1]?.document.name ?? '';
    const find = (kind: string, of: string) => store.backups().find(one => one.kind === kind && one.name === of);
    const known = knownAfter(find, ending, { run: this.id, document: name, at: now() });
    if (known) await this.#surely(() => store.noteBackup(known));
  }

  /** Says something between the steps. */
  note(level: 'info' | 'warning' | 'error', text: string): void {
    this.#tell({ kind: 'note', level, text }).catch((error: unknown) => {
      if (!(error instanceof Left)) console.error(`run ${this.id}:`, error);
    });
  }

  async #tell(happened: Told, ending?: DocumentEnding): Promise<void> {
    const told = redacted(happened, this.#redactor);
    const event = await this.#surely((): Event => {
      const { event, frame } = this.#context.store.append(this.id, told, this.#context.now(), ending);
      this.#recent.push({ n: event.n, frame });
      if (this.#recent.length > RECENT) this.#recent.shift();
      return event;
    });
    this.wakeAll();
    for (const watcher of this.#context.watchers)
      await this.#surely(() => watcher.happened?.(this.id, event, this.admitted));
  }

  async #finish(endings: DocumentEnding[]): Promise<void> {
    const { store, agent, keys, watchers, folder, now } = this.#context;
    const bytes = await sizeOf(join(folder, this.id));
    const { events, head, startedAt, createdAt } = store.find(this.id) ?? NO_RUN;
    const times = { startedAt: startedAt ?? createdAt, finishedAt: now() };
    const audit = this.#context.audit?.();
    const receipt = makeReceipt(this.admitted, agent, endings, {
      events,
      head,
      ...times,
      ...(audit ? { audit } : {}),
      ...this.#planDigest(),
    });
    await this.#surely(() =>
      store.end(this.id, receipt.outcome, signReceipt(receipt, keys()), receipt.finished_at, bytes),
    );
    for (const watcher of watchers) await this.#surely(() => watcher.ended?.(this.id, receipt, this.admitted));
  }

  /** Of a plan that is whole. A dry run has looked at nothing. */
  #planDigest(): { planDigest?: string } {
    const isWhole = this.#plans.length === this.admitted.documents.length && !this.admitted.command.dry_run;
    return isWhole ? { planDigest: digestOfPlans(this.admitted, this.#plans) } : {};
  }

  /** Does it, and where the disk is full or broken does it again until it is not: nothing that was told gets lost. */
  async #surely<T>(work: () => T): Promise<T> {
    for (let complained = false; ; complained = true) {
      try {
        return work();
      } catch (error) {
        if (!mayPass(error)) throw error;
        if (!complained) console.error(`run ${this.id} is held up: the state can't be written:`, error);
        await this.#unlessLeft(sleep(STORE_PAUSE));
      }
    }
  }

  #unlessLeft<T>(promise: Promise<T>): Promise<T> {
    return new Promise((done, fail) => {
      if (this.#isLeft) return fail(new Left());
      this.#whenLeft.add(fail);
      promise.then(done, fail).finally(() => this.#whenLeft.delete(fail));
    });
  }

  get #looksOnly(): boolean {
    return this.admitted.command.type === 'plan' || this.admitted.command.dry_run;
  }
}

const CANCELLED: DocumentEnding = {
  outcome: 'cancelled',
  code: 'cancelled',
  message: 'Cancelled before this document.',
  changed: false,
};
const CANCELLED_WAITING: DocumentEnding = { ...CANCELLED, message: 'Cancelled while it was waiting.' };
const NO_RUN = { events: 0, head: '', startedAt: '', createdAt: '' };

function faultOf(error: unknown): DocumentEnding {
  return {
    outcome: 'interrupted',
    code: 'fault',
    message: `The agent made a mistake of its own: ${error instanceof Error ? error.message : String(error)}`,
    remedy: 'Look at the host’s state and the agent’s log, and report this with the log.',
    changed: true,
  };
}

function mayPass(error: unknown): boolean {
  const { code, errcode } = error as { code?: string; errcode?: number };
  if (code === 'ERR_SQLITE_ERROR') return PASSING_SQLITE.has((errcode ?? 0) & 0xff);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO';
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(done => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}

function subjectsOf(admitted: Admitted): string[] {
  return [
    ...new Set(admitted.documents.flatMap(({ document, executor }) => executor.subjects(document.intent, document))),
  ].sort();
}

/** How many bytes the files below a folder have. */
async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}
