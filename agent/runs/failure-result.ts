import { describeStep } from '../plan/describe.ts';
import type { Plan, Step } from '../plan/plan.ts';
import type { ContainerImage, PlanResult, StepResult } from '../plan/progress.ts';
import type { PlanProgress } from './plan-progress.ts';

export interface FailedStep {
  step: Step;
  result: StepResult;
}

/** The undo steps that succeeded, and the one that failed and ended the undoing. */
export interface UndoResult {
  succeeded: Step[];
  failed: FailedStep | undefined;
}

type FailureResult = Pick<PlanResult, 'outcome' | 'code' | 'message' | 'remedy'>;

/** Returns the outcome and message of a plan with a failed step, after its undo steps. */
export function createFailureResult(
  plan: Plan,
  { step, result }: FailedStep,
  undone: UndoResult,
  progress: PlanProgress,
): FailureResult {
  const code = result.code ?? 'step-failed';
  const message = result.message ?? `The step "${step.name}" failed.`;
  if (undone.failed) {
    const { failed } = undone;
    return createUndoFailure(
      plan,
      { ...undone, failed },
      progress,
      `${endSentence(message)} Undoing it failed too, at`,
    );
  }
  const claim = describeUndone(undone, progress) ?? (leavesChanges(plan, progress, undone) ? plan.oneWay : undefined);
  const hasUndone = undone.succeeded.some(changesHost);
  const outcome = result.outcome === 'cancelled' ? 'cancelled' : hasUndone ? 'rolled-back' : 'failed';
  return {
    outcome,
    code,
    message: claim === undefined ? message : `${endSentence(message)} ${claim}`,
    ...(result.remedy === undefined ? {} : { remedy: result.remedy }),
  };
}

/** Returns the failure `undo-failed`, with the commands that a person can run instead. `intro` ends before the step's name. */
export function createUndoFailure(
  plan: Plan,
  { succeeded, failed: { step, result } }: { succeeded: Step[]; failed: FailedStep },
  progress: PlanProgress,
  intro: string,
): FailureResult {
  const due = plan.undo.filter(one => progress.isDue(one));
  const commands = due.slice(due.indexOf(step)).filter(one => one.do === 'start');
  const names = succeeded.map(({ name }) => `"${name}"`).join(', ');
  return {
    outcome: 'failed',
    code: 'undo-failed',
    message: endSentence(`${intro} "${step.name}": ${result.message ?? result.code ?? 'no reason given'}`),
    remedy:
      commands.length > 0
        ? `Look at the host now: it is in a mixed state. Run by hand: ${commands.map(describeStep).join(' && ')}`
        : `Look at the host now: "${step.name}" failed. Undo steps that succeeded before it: ${names || 'none'}.`,
  };
}

/** Returns a sentence that claims no more than the undo steps and their measurement show. */
function describeUndone(
  { succeeded }: UndoResult,
  { measured: { before, afterUndo } }: PlanProgress,
): string | undefined {
  const changing = succeeded.filter(changesHost);
  if (changing.length === 0) return undefined;
  // A repair completes the new state: nothing goes back.
  if (changing.every(step => step.ifCut !== undefined))
    return 'The interrupted step was completed; nothing was rolled back.';
  if (!before || !afterUndo) return 'The changes were undone.';
  if (!hasSameImages(before, afterUndo)) return 'The undo steps succeeded, but the images differ from those before.';
  return before.length > 0 ? 'The previous version is running again.' : 'The changes were undone.';
}

function hasSameImages(before: readonly ContainerImage[], after: readonly ContainerImage[]): boolean {
  const imagesOf = (containers: readonly ContainerImage[]) =>
    [...new Set(containers.map(({ service, image }) => `${service} ${image}`))].sort().join();
  return imagesOf(before) === imagesOf(after);
}

/** Returns true for a step that changes the services or the data of the host, not only stored files. */
function changesHost(step: Step): boolean {
  return ((step.do === 'start' || step.do === 'tidy') && step.changes === true) || step.do === 'swap';
}

/** Returns true if a failure leaves the host changed: services were changed and not undone, or written files remain. */
export function leavesChanges(plan: Plan, progress: PlanProgress, undone: UndoResult): boolean {
  if (undone.failed) return true;
  const restored = new Set(undone.succeeded.flatMap(step => (step.do === 'restore' ? [step.of] : [])));
  const hasUndone = undone.succeeded.some(changesHost);
  return plan.steps.some(
    step =>
      progress.hasStarted(step) &&
      ((step.do === 'write' && step.changes.some(change => !change.own) && !restored.has(step.name)) ||
        (changesHost(step) && !hasUndone)),
  );
}

function endSentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
