import { describeStep } from '../plan/describe.ts';
import type { Plan, Step } from '../plan/plan.ts';
import type {
  Phase,
  PlanResult,
  ProgressEvent,
  StepMark,
  StepProgress,
  StepResult,
  StepRunner,
} from '../plan/progress.ts';
import {
  createFailureResult,
  createUndoFailure,
  type FailedStep,
  leavesChanges,
  type UndoResult,
} from './failure-result.ts';
import { PlanProgress } from './plan-progress.ts';
import { UNDONE_CODE } from './receipt.ts';

export interface ExecuteOptions {
  /** Number of the document, from 1. */
  document: number;
  stepRunner: StepRunner;
  /** Steps that an earlier agent started, by their index: a finished one is neither repeated nor reported again. */
  earlier?: ReadonlyMap<number, StepProgress> | undefined;
}

const NEVER_ABORTED = new AbortController().signal;

/**
 * Executes `steps` in order, `undo` after a failure or a cancel, and always `cleanup`. Yields what happens.
 * Knows no executor, no socket and no store.
 */
export async function* executePlan(
  plan: Plan,
  { signal, ...options }: ExecuteOptions & { signal: AbortSignal },
): AsyncGenerator<ProgressEvent, PlanResult> {
  const progress = new PlanProgress();
  const sequence = createStepSequence(progress, options, 0);
  let failed: FailedStep | undefined;
  for (const step of plan.steps) {
    if (failed || (signal.aborted && !options.earlier?.has(sequence.nextIndex()))) {
      failed ??= { step, result: { outcome: 'cancelled', code: 'cancelled', message: 'Cancelled before this step.' } };
      progress.recordSkipped(step);
      continue;
    }
    const result = yield* sequence.run(step, 'do', signal);
    if (result.outcome !== 'succeeded') failed = { step, result };
  }

  const undone: UndoResult = failed
    ? yield* runUndo(plan.undo, progress, sequence)
    : { succeeded: [], failed: undefined };
  for (const step of plan.cleanup) {
    if (progress.isDue(step)) yield* sequence.run(step, 'cleanup', NEVER_ABORTED);
  }

  const shared = {
    steps: progress.steps,
    images: progress.images,
    files: progress.files,
    ...(progress.backup ? { backup: progress.backup } : {}),
    ...(progress.drill ? { drill: progress.drill } : {}),
  };
  if (!failed) return { outcome: 'succeeded', ...shared, changed: progress.hasChanges };
  return {
    ...createFailureResult(plan, failed, undone, progress),
    failedStep: failed.step.name,
    ...shared,
    changed: leavesChanges(plan, progress, undone),
  };
}

/**
 * Undoes a plan that succeeded: `undo`, then `late`. Returns undefined if there is nothing to undo.
 * The steps are numbered after the plan's last one, so that an agent can resume them.
 */
export function undoFinishedPlan(
  plan: Plan,
  finished: Pick<PlanResult, 'steps' | 'images' | 'files'> & { changed?: boolean | undefined },
  options: ExecuteOptions,
): AsyncGenerator<ProgressEvent, PlanResult> | undefined {
  const progress = new PlanProgress(finished);
  const undo: Plan = { ...plan, undo: [...plan.undo, ...(plan.late ?? [])] };
  // Only a plan that measures knows that it changed nothing; a restore changes data.
  const isUnchanged = finished.changed === false && plan.steps.some(step => step.do === 'measure');
  if (isUnchanged || !(plan.oneWay || undo.undo.some(step => progress.isDue(step)))) return undefined;
  const lastIndex = plan.steps.length + plan.undo.length + plan.cleanup.length;
  return (async function* () {
    if (plan.oneWay !== undefined) {
      const message = `The document succeeded, and it can't be undone. ${plan.oneWay}`;
      const { steps, images } = finished;
      const rest = { steps, images, files: { written: [], removed: [] }, changed: true };
      return {
        outcome: 'failed',
        code: 'undo-failed',
        message,
        remedy: 'The new version still runs. Decide by hand what should run.',
        ...rest,
      };
    }
    const { succeeded, failed } = yield* runUndo(undo.undo, progress, createStepSequence(progress, options, lastIndex));
    const images = finished.images.map(change => {
      const current = progress.measured.after?.find(({ service }) => service === change.service);
      return { ...change, after: current?.image ?? change.before };
    });
    const shared = { steps: progress.steps, images, files: { written: [], removed: [] } };
    if (!failed) {
      const message = 'The document succeeded and was undone.';
      return { outcome: 'rolled-back', code: UNDONE_CODE, message, ...shared, changed: false };
    }
    const intro = 'The document succeeded, but undoing it failed at';
    return { ...createUndoFailure(undo, { succeeded, failed }, progress, intro), ...shared, changed: true };
  })();
}

interface StepSequence {
  run(step: Step, phase: Phase, signal: AbortSignal): AsyncGenerator<ProgressEvent, StepResult>;
  nextIndex(): number;
}

/** Runs the steps of one document one after another, and numbers them from after `lastIndex`. */
function createStepSequence(
  progress: PlanProgress,
  { document, stepRunner, earlier }: ExecuteOptions,
  lastIndex: number,
): StepSequence {
  let index = lastIndex;
  async function* run(step: Step, phase: Phase, signal: AbortSignal): AsyncGenerator<ProgressEvent, StepResult> {
    const place = { document, index: ++index };
    const before = earlier?.get(place.index);
    if (before && 'ending' in before) {
      progress.record(step, phase, before);
      return before.ending;
    }
    if (!before) {
      const mark: StepMark = { ...place, step: step.name, phase };
      yield { kind: 'step-started', document, step: step.name, text: describeStep(step), phase, mark };
    }
    const startedAt = performance.now();
    const work = stepRunner.run(step, place, signal, before);
    let next = await work.next();
    for (; !next.done; next = await work.next()) yield { kind: 'output', document, step: step.name, ...next.value };
    const finished = { ending: next.value, ms: Math.round(performance.now() - startedAt) };
    const { outcome, code, message, exit } = finished.ending;
    yield {
      kind: 'step-finished',
      document,
      step: step.name,
      outcome,
      ms: finished.ms,
      ...(code === undefined ? {} : { code }),
      ...(message === undefined ? {} : { message }),
      ...(exit === undefined ? {} : { exit }),
      mark: { ...place, ...finished },
    };
    progress.record(step, phase, finished);
    return finished.ending;
  }
  return { run, nextIndex: () => index + 1 };
}

/** Runs the undo steps that are due, up to the first that fails. A cancel does not stop them. */
async function* runUndo(
  steps: readonly Step[],
  progress: PlanProgress,
  { run }: StepSequence,
): AsyncGenerator<ProgressEvent, UndoResult> {
  const succeeded: Step[] = [];
  for (const step of steps) {
    if (!progress.isDue(step)) continue;
    const result = yield* run(step, 'undo', NEVER_ABORTED);
    if (result.outcome !== 'succeeded') return { succeeded, failed: { step, result } };
    succeeded.push(step);
  }
  return { succeeded, failed: undefined };
}
