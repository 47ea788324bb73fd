import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DocumentOutcome } from '../../intents/graph.ts';
import { stackOf } from '../../intents/intent.ts';
import type { Event, Frame } from '../../protocol/event.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import { describeStep } from '../plan/describe.ts';
import { digestOfPlans } from '../plan/digest.ts';
import { Failure } from '../plan/failure.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, ProgressEvent, StepRunner } from '../plan/progress.ts';
import { addRunSecrets, type StackFolder } from '../secrets/learn.ts';
import { redactEvent, redactResult } from '../secrets/redact-events.ts';
import { listShippedFiles, shippedPath } from '../steps/run-folder.ts';
import { updateIndexEntry } from '../store/backup-index.ts';
import type { DocumentProgress } from '../store/runs.ts';
import { Redactor } from '../system/redactor.ts';
import { retryUntilStored } from '../system/retry-storage.ts';
import { executePlan, undoFinishedPlan } from './execute.ts';
import { createSequence, executeGraph } from './graph.ts';
import type { LockQueue } from './lock-queue.ts';
import { LOCK_TIMED_OUT, lockedResult, lockTimeoutOf, waitForLockTimeout } from './lock-timeout.ts';
import type { RunObserver } from './observer.ts';
import { checkPlanDigest, isReadOnlyRun, makePlan, type PlanningDeps } from './plan-document.ts';
import { CANCELLED_BEFORE, CANCELLED_WAITING, faultResult, makeReceipt, signReceipt } from './receipt.ts';
import { type UndoRequest, undoEarlierRun } from './undo.ts';

/** What a run needs of its agent. */
export interface RunContext extends PlanningDeps {
  agent: string;
  /** With which receipts are signed. */
  keys: () => readonly SecretKey[];
  createStepRunner: (runDir: string, redactor: Redactor) => StepRunner & { end(): void };
  /** What must not be told of this host, beside what stands in a stack's files; and names in these whose values may be. */
  secrets?: () => { own: string[]; shown: string[] };
  observers: RunObserver[];
  /** The audit's head, which receipts carry out of the host. */
  audit?: () => { n: number; digest: string };
  locks: LockQueue;
}

/** How many of the newest frames are kept at hand for followers that keep up. */
const RECENT = 8;

/** The agent is being stopped: the run is left as it is, for the next one. */
class Detached extends Error {}

/** One run being carried out: document by document, each planned when its turn comes. */
export class Run {
  readonly admitted: AdmittedCommand;
  /** Wakes the followers. */
  readonly #wake = new Set<() => void>();
  /** The newest frames, so that they need not be made again from the store. */
  readonly #recent: { n: number; frame: Frame }[] = [];
  readonly #context: RunContext;
  readonly #cancelled = new AbortController();
  readonly #redactor = new Redactor();
  /** Of a run that only looks. */
  readonly #plans: Plan[] = [];
  #isDetached = false;
  readonly #onDetach = new Set<(left: Detached) => void>();

  constructor(context: RunContext, admitted: AdmittedCommand) {
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
  detach(): void {
    this.#isDetached = true;
    for (const fail of this.#onDetach) fail(new Detached());
  }

  /** The frames after number `last`, where all of them are at hand. */
  recentAfter(last: number): { n: number; frame: Frame }[] | undefined {
    const first = this.#recent.findIndex(({ n }) => n === last + 1);
    return first < 0 ? undefined : this.#recent.slice(first);
  }

  /** Resolves when something has happened, or when `signal` says so. */
  nextEvent(signal: AbortSignal): Promise<void> {
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

  wakeFollowers(): void {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  /** Carries it out to its receipt, or until it is left. `past`: how far an earlier agent had come. */
  async execute(past?: Map<number, DocumentProgress>): Promise<void> {
    const { locks, observers: watchers } = this.#context;
    const subjects = isReadOnlyRun(this.admitted) ? [] : listSubjects(this.admitted);
    try {
      const { secrets } = this.#context;
      const known = secrets?.() ?? { own: [], shown: [] };
      const { params } = this.admitted.command;
      const warnings = await addRunSecrets(this.#redactor, { ...known, params, stacks: this.#stackFolders() });
      for (const watcher of watchers)
        await this.#retryUntilStored(() =>
          (past ? watcher.resumed : watcher.begun)?.call(watcher, this.id, this.admitted),
        );
      if (!past) for (const text of warnings) await this.#append({ kind: 'note', level: 'warning', text });
      await this.#finish(await this.#waitAndExecute(subjects, past ?? new Map()));
    } catch (error) {
      if (!(error instanceof Detached)) throw error;
    } finally {
      locks.release(this.id, subjects);
    }
  }

  /** Waits for the run's turn, and carries out its documents. Endings stand at their documents' places. */
  async #waitAndExecute(subjects: string[], past: Map<number, DocumentProgress>): Promise<DocumentResults> {
    const { locks, store } = this.#context;
    const { turn, blockedBy } = locks.take(this.id, subjects);
    if (blockedBy) await this.#append({ kind: 'waiting', for: blockedBy.run, what: blockedBy.subject });
    const over = await Promise.race([
      this.#untilDetached(turn),
      waitForAbort(this.#cancelled.signal),
      waitForLockTimeout(lockTimeoutOf(this.admitted), this.#cancelled.signal),
    ]);
    if (this.#cancelled.signal.aborted && past.size === 0) return [CANCELLED_WAITING];
    if (over === LOCK_TIMED_OUT && past.size === 0) {
      const told = await this.#documentFinished(1, lockedResult(blockedBy));
      return [told];
    }
    await this.#retryUntilStored(() => store.running(this.id, this.#context.now()));
    const hands = isReadOnlyRun(this.admitted)
      ? undefined
      : this.#context.createStepRunner(
          join(this.#context.folder, this.admitted.command.undo?.run ?? this.id),
          this.#redactor,
        );
    try {
      const unlike =
        past.size === 0
          ? await checkPlanDigest(this.#context, this.admitted, work => this.#untilDetached(work))
          : undefined;
      if (unlike) return [await this.#documentFinished(1, unlike)];
      const { undo } = this.admitted.command;
      return undo && hands ? await this.#undoEarlierRun(undo, hands, past) : await this.#executeGraph(hands, past);
    } finally {
      hands?.end();
    }
  }

  /** As the graph of the documents has it; what only looks goes through them in order. */
  async #executeGraph(hands: StepRunner | undefined, past: Map<number, DocumentProgress>): Promise<DocumentResults> {
    const { documents } = this.admitted;
    const endings: DocumentResults = documents.map((_, place) => past.get(place + 1)?.ending);
    const keep = async (place: number, work: Promise<DocumentResult>): Promise<DocumentOutcome> => {
      const ending = await work.catch((error: unknown) => this.#faultResult(error));
      endings[place] = ending;
      return ending.outcome;
    };
    const { nodes, mine, ended } = hands ? graphOfCommand(this.admitted.command) : createSequence(documents.length);
    const at = (place: number) => mine.indexOf(place);
    const isOpen = (index: number) => past.get(index + 1)?.plan !== undefined && endings[index] === undefined;
    await executeGraph(nodes, {
      ended: ended.map((known, place) => known ?? endings[at(place)]?.outcome),
      begun: new Set(mine.filter((_, index) => isOpen(index))),
      subjects: nodes.map((_, place) => {
        const one = documents[at(place)];
        return one?.executor.lockSubjects(one.document.intent, one.document) ?? [];
      }),
      isCancelled: () => this.#cancelled.signal.aborted,
      execute: place => keep(at(place), this.#executeDocument(at(place), hands, past.get(at(place) + 1))),
      // What another agent carried is undone there.
      undo: async place =>
        at(place) < 0
          ? 'succeeded'
          : keep(at(place), this.#undoDocument(at(place), endings[at(place)], hands, past.get(at(place) + 1))),
    });
    const next = endings.indexOf(undefined);
    if (this.#cancelled.signal.aborted && next >= 0 && !endings.some(ending => ending?.outcome === 'cancelled'))
      endings[next] = CANCELLED_BEFORE;
    return endings;
  }

  /** What went wrong with the agent itself, as the ending of its document. */
  #faultResult(error: unknown): DocumentResult {
    if (error instanceof Detached) throw error;
    console.error(`run ${this.id}: fault:`, this.#redactor.text(String((error as Error).stack ?? error)));
    return redactResult(faultResult(error), this.#redactor);
  }

  async #executeDocument(
    index: number,
    hands: StepRunner | undefined,
    past: DocumentProgress | undefined,
  ): Promise<DocumentResult> {
    const number = index + 1;
    let plan: Plan;
    try {
      plan = past?.plan ?? (await this.#untilDetached(this.#planDocument(index)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const { code, message, remedy } = error;
      return this.#documentFinished(number, { outcome: 'failed', code, message, remedy, changed: false });
    }
    const shown = this.#redactor.all(plan);
    for (const watcher of this.#context.observers) watcher.planned?.(this.id, number, shown, this.admitted);
    if (!past?.wasPlanned) await this.#appendPlan(number, plan);
    if (!hands) return this.#documentFinished(number, { outcome: 'planned', changed: false });
    const rest = past ? { past: past.steps } : {};
    const ending = await this.#appendAll(
      executePlan(plan, { document: number, hands, signal: this.#cancelled.signal, ...rest }),
    );
    const { restorePoints } = plan;
    return this.#documentFinished(number, { ...ending, ...(restorePoints ? { restorePoints } : {}) });
  }

  /** Brings back what a document had changed that had succeeded. */
  async #undoDocument(
    place: number,
    ended: DocumentResult | undefined,
    hands: StepRunner | undefined,
    past: DocumentProgress | undefined,
  ): Promise<DocumentResult> {
    const document = place + 1;
    const plan = this.#context.store.progress(this.id).get(document)?.plan;
    if (!plan || !ended || !hands) throw new Error(`Document ${document} has nothing to be undone by`);
    const { steps = [], images = [], files = { written: [], removed: [] }, changed } = ended;
    const rest = past ? { past: past.steps } : {};
    const work = undoFinishedPlan(plan, { steps, images, files, changed }, { document, hands, ...rest });
    if (!work) return ended;
    return this.#documentFinished(document, { ...ended, ...(await this.#appendAll(work)) });
  }

  #undoEarlierRun(undo: UndoRequest, hands: StepRunner, past: Map<number, DocumentProgress>): Promise<DocumentResults> {
    const { store } = this.#context;
    return undoEarlierRun(this.admitted.command, undo, {
      ...{ store, stepRunner: hands, past },
      appendPlan: (document, plan) => this.#appendPlan(document, plan),
      appendAll: work => this.#appendAll(work).catch((error: unknown) => this.#faultResult(error)),
      finishDocument: (document, ending) => this.#documentFinished(document, ending),
      retryUntilStored: work => this.#retryUntilStored(work),
    });
  }

  async #appendAll<T>(work: AsyncGenerator<ProgressEvent, T>): Promise<T> {
    let next = await this.#untilDetached(work.next());
    for (; !next.done; next = await this.#untilDetached(work.next())) await this.#append(next.value);
    return next.value;
  }

  async #planDocument(index: number): Promise<Plan> {
    const isLook = isReadOnlyRun(this.admitted);
    const plan = await makePlan(this.#context, this.admitted, index, isLook);
    await this.#retryUntilStored(() => this.#context.store.plan(this.id, index + 1, plan));
    if (isLook) this.#plans.push(plan);
    return plan;
  }

  async #appendPlan(document: number, plan: Plan): Promise<void> {
    const id = this.admitted.documents[document - 1]?.document.intent.id;
    await this.#append({
      kind: 'planned',
      document,
      ...(id === undefined ? {} : { id }),
      title: plan.title,
      summary: plan.summary,
      steps: plan.steps.map(step => ({ name: step.name, text: describeStep(step) })),
      changes: plan.changes,
    });
  }

  async #documentFinished(document: number, ended: DocumentResult): Promise<DocumentResult> {
    const ending = redactResult(ended, this.#redactor);
    const { outcome, code, message } = ending;
    if (outcome === 'skipped') return ending;
    if (outcome === 'succeeded') await this.#noteBackup(document, ending);
    await this.#append(
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
  async #noteBackup(document: number, ending: DocumentResult): Promise<void> {
    const { store, now } = this.#context;
    const name = this.admitted.documents[document - 1]?.document.name ?? '';
    const find = (kind: string, of: string) => store.backups().find(one => one.kind === kind && one.name === of);
    const known = updateIndexEntry(find, ending, { run: this.id, document: name, at: now() });
    if (known) await this.#retryUntilStored(() => store.putBackup(known));
  }

  /** Says something between the steps. */
  note(level: 'info' | 'warning' | 'error', text: string): void {
    this.#append({ kind: 'note', level, text }).catch((error: unknown) => {
      if (!(error instanceof Detached)) console.error(`run ${this.id}:`, error);
    });
  }

  async #append(happened: ProgressEvent, ending?: DocumentResult): Promise<void> {
    const told = redactEvent(happened, this.#redactor);
    const event = await this.#retryUntilStored((): Event => {
      const { event, frame } = this.#context.store.append(this.id, told, this.#context.now(), ending);
      this.#recent.push({ n: event.n, frame });
      if (this.#recent.length > RECENT) this.#recent.shift();
      return event;
    });
    this.wakeFollowers();
    for (const watcher of this.#context.observers)
      await this.#retryUntilStored(() => watcher.eventStored?.(this.id, event, this.admitted));
  }

  async #finish(endings: DocumentResults): Promise<void> {
    const { store, agent, keys, observers: watchers, folder, now } = this.#context;
    const bytes = await folderSize(join(folder, this.id));
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
    await this.#retryUntilStored(() =>
      store.end(this.id, receipt.outcome, signReceipt(receipt, keys()), receipt.finished_at, bytes),
    );
    for (const watcher of watchers)
      await this.#retryUntilStored(() => watcher.ended?.(this.id, receipt, this.admitted));
  }

  /** Of a plan that is whole. A dry run has looked at nothing. */
  #planDigest(): { planDigest?: string } {
    const isWhole = this.#plans.length === this.admitted.documents.length && !this.admitted.command.dry_run;
    return isWhole ? { planDigest: digestOfPlans(this.admitted.command, this.#plans) } : {};
  }

  /** The folders of the run's stacks, with the shipped files that will be put in place there. A dry run reads none. */
  #stackFolders(): StackFolder[] {
    const { site, folder } = this.#context;
    const { command, documents } = this.admitted;
    if (command.dry_run) return [];
    const intents = new Map(documents.map(({ document: { intent } }) => [stackOf(intent), intent]));
    intents.delete('');
    return [...intents].map(([stack, intent]) => {
      const path = join(site().stacksRoot, stack);
      const shipped = listShippedFiles(command.files, intent).map(file => {
        return [join(path, file.path), shippedPath(join(folder, this.id), file.sha256)] as const;
      });
      return { path, shipped: new Map(shipped) };
    });
  }

  #retryUntilStored<T>(work: () => T): Promise<T> {
    return retryUntilStored(this.id, work, pause => this.#untilDetached(pause));
  }

  #untilDetached<T>(promise: Promise<T>): Promise<T> {
    return new Promise((done, fail) => {
      if (this.#isDetached) return fail(new Detached());
      this.#onDetach.add(fail);
      promise.then(done, fail).finally(() => this.#onDetach.delete(fail));
    });
  }
}

/** By the places of their documents. */
type DocumentResults = (DocumentResult | undefined)[];

const NO_RUN = { events: 0, head: '', startedAt: '', createdAt: '' };

function waitForAbort(signal: AbortSignal): Promise<void> {
  return new Promise(done => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}

function listSubjects(admitted: AdmittedCommand): string[] {
  return [
    ...new Set(
      admitted.documents.flatMap(({ document, executor }) => executor.lockSubjects(document.intent, document)),
    ),
  ].sort();
}

/** How many bytes the files below a folder have. */
async function folderSize(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}
