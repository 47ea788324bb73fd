import type { ImageChange, ReceiptStep } from '../../protocol/receipt.ts';
import { describeStep } from '../plan/describe.ts';
import type { Plan, Step } from '../plan/plan.ts';
import type {
  BackupFacts,
  ContainerImage,
  DrillFacts,
  Phase,
  PlanResult,
  ProgressEvent,
  StepMark,
  StepProgress,
  StepResult,
  StepRunner,
} from '../plan/progress.ts';

/** What the steps have come to so far. */
interface PlanProgress {
  begun: Set<string>;
  cut: Set<string>;
  results: ReceiptStep[];
  seen: { before?: ContainerImage[]; after?: ContainerImage[] };
  backup?: BackupFacts;
  drill?: DrillFacts;
  files: { written: string[]; removed: string[] };
}

/**
 * Plan in, happenings out: `steps` in order; after a failure or a cancel `undo`; at the end, whatever happened, `cleanup`.
 * `past` holds the steps of an earlier agent by their index: those with an end are taken as they were and not told again.
 * Knows no executor, no socket and no store.
 */
export async function* executePlan(
  plan: Plan,
  {
    document,
    hands,
    signal,
    past,
  }: { document: number; hands: StepRunner; signal: AbortSignal; past?: Map<number, StepProgress> },
): AsyncGenerator<ProgressEvent, PlanResult> {
  const progress: PlanProgress = {
    begun: new Set(),
    cut: new Set(),
    results: [],
    seen: {},
    files: { written: [], removed: [] },
  };
  let failed: { step: Step; ending: StepResult } | undefined;
  const { run, next } = createStepSequence(progress, { document, hands, past }, 0);

  for (const step of plan.steps) {
    if (failed || (signal.aborted && !past?.has(next()))) {
      failed ??= { step, ending: { outcome: 'cancelled', code: 'cancelled', message: 'Cancelled before this step.' } };
      progress.results.push({ name: step.name, outcome: 'skipped', ms: 0, phase: 'do' });
      continue;
    }
    const ending = yield* run(step, 'do', signal);
    if (ending.outcome !== 'succeeded') failed = { step, ending };
  }

  let undone: UndoResult = { steps: [], broke: undefined };
  if (failed) undone = yield* runUndo(plan, progress, run);
  for (const step of plan.cleanup) {
    if (isDue(step, progress)) yield* run(step, 'cleanup', NEVER_ABORTED);
  }

  const images = progress.seen.after ? listImageChanges(progress.seen.before ?? [], progress.seen.after) : [];
  const replaced =
    progress.seen.after !== undefined &&
    joinContainerIds(progress.seen.before) !== joinContainerIds(progress.seen.after);
  const shared = {
    steps: progress.results,
    images,
    files: progress.files,
    ...(progress.backup ? { backup: progress.backup } : {}),
    ...(progress.drill ? { drill: progress.drill } : {}),
  };
  if (!failed) {
    const changed = replaced || progress.files.written.length + progress.files.removed.length > 0;
    return { outcome: 'succeeded', ...shared, changed };
  }
  return {
    ...describeFailure(plan, failed, undone, progress),
    failedStep: failed.step.name,
    ...shared,
    changed: leavesChanges(plan, progress.begun, undone),
  };
}

/**
 * Carries out the steps of one document one after another and numbers them, from after `index` on. `next` is the number of the
 * next one.
 */
function createStepSequence(
  progress: PlanProgress,
  { document, hands, past }: { document: number; hands: StepRunner; past?: Map<number, StepProgress> | undefined },
  index: number,
) {
  async function* run(step: Step, phase: Phase, stop: AbortSignal): AsyncGenerator<ProgressEvent, StepResult> {
    const place = { document, index: ++index };
    const before = past?.get(place.index);
    if (before && 'ending' in before) return recordResult(progress, step, phase, before);
    if (!before) {
      const mark: StepMark = { ...place, step: step.name, phase };
      yield { kind: 'step-started', document, step: step.name, text: describeStep(step), phase, mark };
    }
    const started = performance.now();
    const work = hands.run(step, place, stop, before);
    let next = await work.next();
    for (; !next.done; next = await work.next()) yield { kind: 'output', document, step: step.name, ...next.value };
    const ended = { ending: next.value, ms: Math.round(performance.now() - started) };
    const { outcome, code, message, exit } = ended.ending;
    yield {
      kind: 'step-finished',
      document,
      step: step.name,
      outcome,
      ms: ended.ms,
      ...(code === undefined ? {} : { code }),
      ...(message === undefined ? {} : { message }),
      ...(exit === undefined ? {} : { exit }),
      mark: { ...place, ...ended },
    };
    return recordResult(progress, step, phase, ended);
  }
  return { run, next: () => index + 1 };
}

/** The code of a document that had succeeded and was undone since a later one had not. */
export const UNDONE_CODE = 'undone';

/**
 * Undoes a plan that had succeeded: `undo` as after a failure behind its last step, then `late`. `ended`: how it had ended.
 * Undefined where there is nothing to undo. Its steps are numbered on from the plan's last one.
 */
export function undoFinishedPlan(
  plan: Plan,
  ended: Pick<PlanResult, 'steps' | 'images' | 'files'> & { changed?: boolean | undefined },
  { document, hands, past }: { document: number; hands: StepRunner; past?: Map<number, StepProgress> },
): AsyncGenerator<ProgressEvent, PlanResult> | undefined {
  const begun = new Set(ended.steps.flatMap(({ name, phase }) => (phase === 'do' ? [name] : [])));
  const progress: PlanProgress = { begun, cut: new Set(), results: [...ended.steps], seen: {}, files: ended.files };
  const back: Plan = { ...plan, undo: [...plan.undo, ...(plan.late ?? [])] };
  // What measures what it changes knows; a restore changes data.
  const isUnchanged = ended.changed === false && plan.steps.some(step => step.do === 'measure');
  if (isUnchanged || !back.undo.some(step => isDue(step, progress))) return undefined;
  const { run } = createStepSequence(
    progress,
    { document, hands, past },
    plan.steps.length + plan.undo.length + plan.cleanup.length,
  );
  return (async function* () {
    const undone = yield* runUndo(back, progress, run);
    const images = ended.images.map(change => {
      const current = progress.seen.after?.find(seen => seen.service === change.service);
      return { ...change, after: current?.image ?? change.before };
    });
    const shared = { steps: progress.results, images, files: { written: [], removed: [] } };
    if (!undone.broke) {
      const message = 'It had succeeded, and was undone.';
      return { outcome: 'rolled-back', code: UNDONE_CODE, message, ...shared, changed: false };
    }
    const [step] = plan.steps.slice(-1);
    const ending: StepResult = { outcome: 'failed', message: 'It had succeeded, and was to be undone.' };
    const judged = step && describeFailure(back, { step, ending }, undone, progress);
    return { ...judged, outcome: 'failed', code: 'undo-failed', ...shared, changed: true };
  })();
}

/** Takes over what a step has come to. */
function recordResult(
  progress: PlanProgress,
  step: Step,
  phase: Phase,
  { ending, ms }: { ending: StepResult; ms: number },
): StepResult {
  if (phase === 'do') progress.begun.add(step.name);
  if (phase === 'do' && ending.cut) progress.cut.add(step.name);
  if (step.do === 'measure' && ending.seen) progress.seen[step.as] = ending.seen;
  if (ending.backup) progress.backup = ending.backup;
  if (ending.drill) progress.drill = ending.drill;
  if (phase === 'do' && ending.files) {
    progress.files.written.push(...ending.files.written);
    progress.files.removed.push(...ending.files.removed);
  }
  progress.results.push({ name: step.name, outcome: ending.outcome, ms, phase });
  return ending;
}

function isDue(step: Step, { begun, cut }: PlanProgress): boolean {
  if (step.ifBegan !== undefined && !begun.has(step.ifBegan)) return false;
  if (step.ifCut !== undefined && !cut.has(step.ifCut)) return false;
  return step.unlessBegan === undefined || !begun.has(step.unlessBegan);
}

interface UndoResult {
  steps: Step[];
  broke: { step: Step; ending: StepResult } | undefined;
}

const NEVER_ABORTED = new AbortController().signal;

async function* runUndo(
  plan: Plan,
  progress: PlanProgress,
  run: (step: Step, phase: 'undo', stop: AbortSignal) => AsyncGenerator<ProgressEvent, StepResult>,
): AsyncGenerator<ProgressEvent, UndoResult> {
  const undone: UndoResult = { steps: [], broke: undefined };
  for (const step of plan.undo) {
    if (undone.broke || !isDue(step, progress)) continue;
    const ending = yield* run(step, 'undo', NEVER_ABORTED);
    if (ending.outcome === 'succeeded') undone.steps.push(step);
    else undone.broke = { step, ending };
  }
  return undone;
}

function describeFailure(
  plan: Plan,
  { step, ending }: { step: Step; ending: StepResult },
  undone: UndoResult,
  progress: PlanProgress,
): Pick<PlanResult, 'outcome' | 'code' | 'message' | 'remedy'> {
  const code = ending.code ?? 'step-failed';
  const message = ending.message ?? `The step "${step.name}" did not succeed.`;
  const remedy = ending.remedy === undefined ? {} : { remedy: ending.remedy };
  if (undone.broke) {
    const { step: broken, ending: why } = undone.broke;
    const due = plan.undo.filter(one => isDue(one, progress));
    const left = due.slice(due.indexOf(broken)).filter(one => one.do === 'start');
    const byHand = left.map(describeStep).join(' && ');
    return {
      outcome: 'failed',
      code: 'undo-failed',
      message: `${message} Undoing it failed too, at "${broken.name}": ${why.message ?? why.code ?? 'no reason given'}.`,
      remedy: byHand
        ? `Look at the host now: it is between the old and the new state. By hand: ${byHand}`
        : `Look at the host now: what was there before has been started again, but "${broken.name}" fails for it too.`,
    };
  }
  const putBack = undone.steps.some(changesHost);
  const end = /[.!?]$/.test(message) ? '' : '.';
  const again = putBack ? `${end} What was there before runs again.` : '';
  if (ending.outcome === 'cancelled') return { outcome: 'cancelled', code, message: `${message}${again}`, ...remedy };
  return { outcome: putBack ? 'rolled-back' : 'failed', code, message: `${message}${again}`, ...remedy };
}

function changesHost(step: Step): boolean {
  return ((step.do === 'start' || step.do === 'tidy') && step.changes === true) || step.do === 'swap';
}

/** Whether the host is left changed after a failure: a process was started that changes services and was not undone, or files stay. */
function leavesChanges(plan: Plan, begun: Set<string>, undone: UndoResult): boolean {
  if (undone.broke) return true;
  const restored = new Set(undone.steps.flatMap(step => (step.do === 'restore' ? [step.of] : [])));
  const putBack = undone.steps.some(changesHost);
  return plan.steps.some(
    step =>
      begun.has(step.name) &&
      ((step.do === 'write' && step.changes.some(change => !change.own) && !restored.has(step.name)) ||
        (changesHost(step) && !putBack)),
  );
}

function listImageChanges(before: ContainerImage[], after: ContainerImage[]): ImageChange[] {
  const services = [...new Set([...before, ...after].map(seen => seen.service))].sort();
  return services.map(service => {
    const previous = before.find(seen => seen.service === service);
    const current = after.find(seen => seen.service === service);
    return {
      service,
      reference: (current ?? previous)?.reference ?? '',
      before: previous?.image ?? null,
      after: current?.image ?? null,
    };
  });
}

function joinContainerIds(seen: ContainerImage[] = []): string {
  return seen
    .map(one => one.container)
    .sort()
    .join();
}
