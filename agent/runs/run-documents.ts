import type { AdmittedCommand } from '../admission/admitted.ts';
import { isPlanKnown } from '../plan/describe.ts';
import { Failure } from '../plan/failure.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, PlanResult, StepRunner } from '../plan/progress.ts';
import { refusals } from '../refusals.ts';
import { redactResult } from '../secrets/redact-events.ts';
import type { DocumentProgress, RunStore } from '../store/runs.ts';
import type { Redactor } from '../system/redactor.ts';
import { Detached, type Detachment } from './detachment.ts';
import { type DocumentIndex, numberOf } from './document-index.ts';
import { executePlan, undoFinishedPlan } from './execute.ts';
import type { RunObserver } from './observer.ts';
import { isReadOnlyRun, makePlan, type PlanningDeps, removeConfigs } from './plan-document.ts';
import { faultResult } from './receipt.ts';
import type { RunLog } from './run-log.ts';

export interface RunDocumentsDeps extends PlanningDeps {
  admitted: AdmittedCommand;
  observers: readonly RunObserver[];
  log: RunLog;
  redactor: Redactor;
  /** Makes the redactor learn the secrets of a plan. */
  learnPlan: (plan: Plan) => Promise<void>;
  /** The warnings that are in the log. */
  warned: Set<string>;
  detachment: Detachment;
  /** Aborted by a cancel. */
  signal: AbortSignal;
  /** Absent in a read-only run. */
  stepRunner: StepRunner | undefined;
  /** Progress of an earlier agent, by the documents' numbers. */
  earlier: ReadonlyMap<number, DocumentProgress>;
}

const NOTHING_TO_UNDO: DocumentResult = { outcome: 'succeeded', changed: false };
const NO_FILES: PlanResult['files'] = { written: [], removed: [] };

/** Plans, executes and undoes single documents of one run. The caller decides which one, and when. */
export class RunDocuments {
  readonly admitted: AdmittedCommand;
  /** Aborted by a cancel. */
  readonly signal: AbortSignal;
  /** The plans of a read-only run. */
  readonly plans: Plan[] = [];
  readonly #deps: RunDocumentsDeps;
  readonly #store: RunStore;
  readonly #run: string;

  constructor(deps: RunDocumentsDeps) {
    this.#deps = deps;
    this.#store = deps.store;
    this.admitted = deps.admitted;
    this.signal = deps.signal;
    this.#run = deps.admitted.command.id;
  }

  get isReadOnly(): boolean {
    return this.#deps.stepRunner === undefined;
  }

  /** Returns the result that an earlier agent stored. */
  earlierResult(index: DocumentIndex): DocumentResult | undefined {
    return this.#earlier(index)?.ending;
  }

  /** Returns true if an earlier agent started the document and stored no result. */
  isUnfinished(index: DocumentIndex): boolean {
    const earlier = this.#earlier(index);
    return earlier?.plan !== undefined && earlier.ending === undefined;
  }

  /** Plans and executes a document, or resumes it. A fault of the agent becomes its result. */
  execute(index: DocumentIndex): Promise<DocumentResult> {
    return this.#execute(index).catch((error: unknown) => this.#faultResult(error));
  }

  /** Undoes a document of this run that succeeded with `result`. A fault of the agent becomes its result. */
  undo(index: DocumentIndex, result: DocumentResult | undefined): Promise<DocumentResult> {
    return this.#undo(index, result).catch((error: unknown) => this.#faultResult(error));
  }

  /** Undoes a document of an earlier run, which had this plan and this result. */
  async undoOfRun(run: string, index: DocumentIndex, plan: Plan, result: DocumentResult): Promise<DocumentResult> {
    const { log, detachment, learnPlan } = this.#deps;
    if (!isPlanKnown(plan)) {
      const { code, message, remedy } = refusals.undoNotPossible(run, 'an older version of the agent planned it');
      return log.appendResult(index, { outcome: 'failed', code, message, remedy, changed: false });
    }
    await learnPlan(plan);
    if (!this.#earlier(index)) await log.appendPlan(index, describeUndoPlan(plan));
    const work = this.#undoWork(index, plan, result);
    const undone = work
      ? await log.appendAll(work).catch((error: unknown) => this.#faultResult(error))
      : NOTHING_TO_UNDO;
    const finished = await log.appendResult(index, undone);
    if (finished.outcome === 'rolled-back')
      await detachment.retryUntilStored(() =>
        this.#store.replaceResult(run, numberOf(index), { ...result, ...finished }),
      );
    return finished;
  }

  async #execute(index: DocumentIndex): Promise<DocumentResult> {
    const { observers, log, redactor, learnPlan, detachment, signal, stepRunner } = this.#deps;
    const earlier = this.#earlier(index);
    let plan: Plan;
    try {
      plan = earlier?.plan ?? (await detachment.until(this.#makePlan(index)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const { code, message, remedy } = error;
      return log.appendResult(index, { outcome: 'failed', code, message, remedy, changed: false });
    }
    await learnPlan(plan);
    const document = numberOf(index);
    const redacted = redactor.sentences(plan);
    for (const observer of observers) observer.planned?.(this.#run, document, redacted, this.admitted);
    if (!earlier?.wasPlanned) {
      await log.appendPlan(index, plan);
      await this.#warn(plan);
    }
    if (!stepRunner) return log.appendResult(index, { outcome: 'planned', changed: false });
    const work = executePlan(plan, { document, stepRunner, signal, earlier: earlier?.steps });
    const result = await log.appendAll(work);
    const { restorePoints } = plan;
    return log.appendResult(index, { ...result, ...(restorePoints ? { restorePoints } : {}) });
  }

  /** Appends the plan's warnings to the log, each once in a run. */
  async #warn({ warnings = [] }: Plan): Promise<void> {
    const { warned, log } = this.#deps;
    for (const text of warnings.filter(one => !warned.has(one))) {
      warned.add(text);
      await log.append({ kind: 'note', level: 'warning', text });
    }
  }

  async #makePlan(index: DocumentIndex): Promise<Plan> {
    const isReadOnly = isReadOnlyRun(this.admitted);
    try {
      const plan = await makePlan(this.#deps, this.admitted, index, isReadOnly);
      await this.#deps.detachment.retryUntilStored(() => this.#store.plan(this.#run, numberOf(index), plan));
      if (isReadOnly) this.plans.push(plan);
      return plan;
    } finally {
      if (isReadOnly) await removeConfigs(this.#deps, this.#run, index);
    }
  }

  async #undo(index: DocumentIndex, result: DocumentResult | undefined): Promise<DocumentResult> {
    const { log, learnPlan } = this.#deps;
    const plan = this.#store.progress(this.#run).get(numberOf(index))?.plan;
    if (!plan || !result || this.isReadOnly) throw new Error(`Document ${numberOf(index)} has no plan to undo`);
    await learnPlan(plan);
    const work = this.#undoWork(index, plan, result);
    if (!work) return result;
    return log.appendResult(index, { ...result, ...(await log.appendAll(work)) });
  }

  #undoWork(
    index: DocumentIndex,
    plan: Plan,
    { steps = [], images = [], files = NO_FILES, changed }: DocumentResult,
  ): ReturnType<typeof undoFinishedPlan> {
    const { stepRunner } = this.#deps;
    if (!stepRunner) throw new Error('A read-only run undoes nothing');
    const options = { document: numberOf(index), stepRunner, earlier: this.#earlier(index)?.steps };
    return undoFinishedPlan(plan, { steps, images, files, changed }, options);
  }

  #earlier(index: DocumentIndex): DocumentProgress | undefined {
    return this.#deps.earlier.get(numberOf(index));
  }

  #faultResult(error: unknown): DocumentResult {
    if (error instanceof Detached) throw error;
    const { redactor } = this.#deps;
    console.error(`run ${this.#run}: fault:`, redactor.sentence(String((error as Error).stack ?? error)));
    return redactResult(faultResult(error), redactor);
  }
}

/** Returns the plan that is reported while `plan` is undone. */
function describeUndoPlan({ title, undo, late = [] }: Plan): Plan {
  return {
    title: `undo of: ${title}`,
    summary: 'Undoes the changes of this document.',
    changes: [],
    steps: [...undo, ...late],
    undo: [],
    cleanup: [],
  };
}
