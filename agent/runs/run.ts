import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ended } from '../../intents/graph.ts';
import { stackOf } from '../../intents/intent.ts';
import type { Event, Frame } from '../../protocol/event.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { Admitted } from '../admission/admitted.ts';
import { describeStep } from '../plan/describe.ts';
import { digestOfPlans } from '../plan/digest.ts';
import { CannotPlan } from '../plan/failure.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentEnding, Hands, Told } from '../plan/progress.ts';
import { learnSecrets, type StackFolder } from '../secrets/learn.ts';
import { redacted, withWords } from '../secrets/redact-events.ts';
import { shippedFor, shippedPath } from '../steps/run-folder.ts';
import { knownAfter } from '../store/backup-index.ts';
import type { DocumentPast } from '../store/runs.ts';
import { Redactor } from '../system/redactor.ts';
import { surely } from '../system/retry-storage.ts';
import { carryOut, undoLate } from './execute.ts';
import { carryGraph, sequence } from './graph.ts';
import type { Locks } from './lock-queue.ts';
import { PATIENCE_OVER, patienceEnds, patienceOf, stillLocked } from './lock-timeout.ts';
import type { Watcher } from './observer.ts';
import { looksOnly, makePlan, type Planner, unlikeItsPlan } from './plan-document.ts';
import { CANCELLED, CANCELLED_WAITING, faultOf, makeReceipt, signReceipt } from './receipt.ts';
import { type Undo, undoRun } from './undo.ts';

/** What a run needs of its agent. */
export interface RunContext extends Planner {
  agent: string;
  /** With which receipts are signed. */
  keys: () => readonly SecretKey[];
  hands: (runDir: string, redactor: Redactor) => Hands & { end(): void };
  /** What must not be told of this host, beside what stands in a stack's files; and names in these whose values may be. */
  secrets?: () => { own: string[]; shown: string[] };
  watchers: Watcher[];
  /** The audit's head, which receipts carry out of the host. */
  audit?: () => { n: number; digest: string };
  locks: Locks;
}

/** How many of the newest frames are kept at hand for followers that keep up. */
const RECENT = 8;

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
    const subjects = looksOnly(this.admitted) ? [] : subjectsOf(this.admitted);
    try {
      const { secrets } = this.#context;
      const known = secrets?.() ?? { own: [], shown: [] };
      const { params } = this.admitted.command;
      const warnings = await learnSecrets(this.#redactor, { ...known, params, stacks: this.#stackFolders() });
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

  /** Waits for the run's turn, and carries out its documents. Endings stand at their documents' places. */
  async #take(subjects: string[], past: Map<number, DocumentPast>): Promise<Endings> {
    const { locks, store } = this.#context;
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
    const hands = looksOnly(this.admitted)
      ? undefined
      : this.#context.hands(join(this.#context.folder, this.admitted.command.undo?.run ?? this.id), this.#redactor);
    try {
      const unlike =
        past.size === 0 ? await unlikeItsPlan(this.#context, this.admitted, work => this.#unlessLeft(work)) : undefined;
      if (unlike) return [await this.#documentFinished(1, unlike)];
      const { undo } = this.admitted.command;
      return undo && hands ? await this.#undoRun(undo, hands, past) : await this.#documents(hands, past);
    } finally {
      hands?.end();
    }
  }

  /** As the graph of the documents has it; what only looks goes through them in order. */
  async #documents(hands: Hands | undefined, past: Map<number, DocumentPast>): Promise<Endings> {
    const { documents } = this.admitted;
    const endings: Endings = documents.map((_, place) => past.get(place + 1)?.ending);
    const keep = async (place: number, work: Promise<DocumentEnding>): Promise<Ended> => {
      const ending = await work.catch((error: unknown) => this.#fault(error));
      endings[place] = ending;
      return ending.outcome;
    };
    const { nodes, mine, ended } = hands ? graphOfCommand(this.admitted.command) : sequence(documents.length);
    const at = (place: number) => mine.indexOf(place);
    const isOpen = (index: number) => past.get(index + 1)?.plan !== undefined && endings[index] === undefined;
    await carryGraph(nodes, {
      ended: ended.map((known, place) => known ?? endings[at(place)]?.outcome),
      begun: new Set(mine.filter((_, index) => isOpen(index))),
      subjects: nodes.map((_, place) => {
        const one = documents[at(place)];
        return one?.executor.subjects(one.document.intent, one.document) ?? [];
      }),
      isCancelled: () => this.#cancelled.signal.aborted,
      carry: place => keep(at(place), this.#document(at(place), hands, past.get(at(place) + 1))),
      // What another agent carried is undone there.
      undo: async place =>
        at(place) < 0
          ? 'succeeded'
          : keep(at(place), this.#undo(at(place), endings[at(place)], hands, past.get(at(place) + 1))),
    });
    const next = endings.indexOf(undefined);
    if (this.#cancelled.signal.aborted && next >= 0 && !endings.some(ending => ending?.outcome === 'cancelled'))
      endings[next] = CANCELLED;
    return endings;
  }

  /** What went wrong with the agent itself, as the ending of its document. */
  #fault(error: unknown): DocumentEnding {
    if (error instanceof Left) throw error;
    console.error(`run ${this.id}: fault:`, this.#redactor.text(String((error as Error).stack ?? error)));
    return withWords(faultOf(error), this.#redactor);
  }

  async #document(index: number, hands: Hands | undefined, past: DocumentPast | undefined): Promise<DocumentEnding> {
    const number = index + 1;
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
    const ending = await this.#hear(
      carryOut(plan, { document: number, hands, signal: this.#cancelled.signal, ...rest }),
    );
    const { restorePoints } = plan;
    return this.#documentFinished(number, { ...ending, ...(restorePoints ? { restorePoints } : {}) });
  }

  /** Brings back what a document had changed that had succeeded. */
  async #undo(
    place: number,
    ended: DocumentEnding | undefined,
    hands: Hands | undefined,
    past: DocumentPast | undefined,
  ): Promise<DocumentEnding> {
    const document = place + 1;
    const plan = this.#context.store.past(this.id).get(document)?.plan;
    if (!plan || !ended || !hands) throw new Error(`Document ${document} has nothing to be undone by`);
    const { steps = [], images = [], files = { written: [], removed: [] }, changed } = ended;
    const rest = past ? { past: past.steps } : {};
    const work = undoLate(plan, { steps, images, files, changed }, { document, hands, ...rest });
    if (!work) return ended;
    return this.#documentFinished(document, { ...ended, ...(await this.#hear(work)) });
  }

  #undoRun(undo: Undo, hands: Hands, past: Map<number, DocumentPast>): Promise<Endings> {
    const { store } = this.#context;
    return undoRun(this.admitted.command, undo, {
      ...{ store, hands, past },
      tellPlan: (document, plan) => this.#tellPlan(document, plan),
      hear: work => this.#hear(work).catch((error: unknown) => this.#fault(error)),
      finished: (document, ending) => this.#documentFinished(document, ending),
      surely: work => this.#surely(work),
    });
  }

  async #hear<T>(work: AsyncGenerator<Told, T>): Promise<T> {
    let next = await this.#unlessLeft(work.next());
    for (; !next.done; next = await this.#unlessLeft(work.next())) await this.#tell(next.value);
    return next.value;
  }

  async #plan(index: number): Promise<Plan> {
    const isLook = looksOnly(this.admitted);
    const plan = await makePlan(this.#context, this.admitted, index, isLook);
    await this.#surely(() => this.#context.store.plan(this.id, index + 1, plan));
    if (isLook) this.#plans.push(plan);
    return plan;
  }

  async #tellPlan(document: number, plan: Plan): Promise<void> {
    const id = this.admitted.documents[document - 1]?.document.intent.id;
    await this.#tell({
      kind: 'planned',
      document,
      ...(id === undefined ? {} : { id }),
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

  async #finish(endings: Endings): Promise<void> {
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
      const shipped = shippedFor(command.files, intent).map(file => {
        return [join(path, file.path), shippedPath(join(folder, this.id), file.sha256)] as const;
      });
      return { path, shipped: new Map(shipped) };
    });
  }

  #surely<T>(work: () => T): Promise<T> {
    return surely(this.id, work, pause => this.#unlessLeft(pause));
  }

  #unlessLeft<T>(promise: Promise<T>): Promise<T> {
    return new Promise((done, fail) => {
      if (this.#isLeft) return fail(new Left());
      this.#whenLeft.add(fail);
      promise.then(done, fail).finally(() => this.#whenLeft.delete(fail));
    });
  }
}

/** By the places of their documents. */
type Endings = (DocumentEnding | undefined)[];

const NO_RUN = { events: 0, head: '', startedAt: '', createdAt: '' };

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
