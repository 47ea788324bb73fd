import type { ImageChange, StepResult } from '../../protocol/receipt.ts';
import { describeStep } from '../plan/describe.ts';
import type { Plan, Step } from '../plan/plan.ts';
import type {
  BackupFacts,
  DrillFacts,
  Ending,
  Hands,
  Past,
  Phase,
  Seen,
  StepEnding,
  StepMark,
  Told,
} from '../plan/progress.ts';

/** What the steps have come to so far. */
interface Progress {
  begun: Set<string>;
  cut: Set<string>;
  results: StepResult[];
  seen: { before?: Seen[]; after?: Seen[] };
  backup?: BackupFacts;
  drill?: DrillFacts;
  files: { written: string[]; removed: string[] };
}

/**
 * Plan in, happenings out: `steps` in order; after a failure or a cancel `undo`; at the end, whatever happened, `cleanup`.
 * `past` holds the steps of an earlier agent by their index: those with an end are taken as they were and not told again.
 * Knows no executor, no socket and no store.
 */
export async function* carryOut(
  plan: Plan,
  { document, hands, signal, past }: { document: number; hands: Hands; signal: AbortSignal; past?: Map<number, Past> },
): AsyncGenerator<Told, Ending> {
  const so: Progress = {
    begun: new Set(),
    cut: new Set(),
    results: [],
    seen: {},
    files: { written: [], removed: [] },
  };
  let failed: { step: Step; ending: StepEnding } | undefined;
  const { run, next } = runner(so, { document, hands, past }, 0);

  for (const step of plan.steps) {
    if (failed || (signal.aborted && !past?.has(next()))) {
      failed ??= { step, ending: { outcome: 'cancelled', code: 'cancelled', message: 'Cancelled before this step.' } };
      so.results.push({ name: step.name, outcome: 'skipped', ms: 0, phase: 'do' });
      continue;
    }
    const ending = yield* run(step, 'do', signal);
    if (ending.outcome !== 'succeeded') failed = { step, ending };
  }

  let undone: Undone = { steps: [], broke: undefined };
  if (failed) undone = yield* undo(plan, so, run);
  for (const step of plan.cleanup) {
    if (isDue(step, so)) yield* run(step, 'cleanup', NEVER);
  }

  const images = so.seen.after ? imageChanges(so.seen.before ?? [], so.seen.after) : [];
  const replaced = so.seen.after !== undefined && containerSet(so.seen.before) !== containerSet(so.seen.after);
  const told = {
    steps: so.results,
    images,
    files: so.files,
    ...(so.backup ? { backup: so.backup } : {}),
    ...(so.drill ? { drill: so.drill } : {}),
  };
  if (!failed) {
    const changed = replaced || so.files.written.length + so.files.removed.length > 0;
    return { outcome: 'succeeded', ...told, changed };
  }
  return {
    ...judgeFailure(plan, failed, undone, so),
    failedStep: failed.step.name,
    ...told,
    changed: begunToChange(plan, so.begun, undone),
  };
}

/**
 * Carries out the steps of one document one after another and numbers them, from after `index` on. `next` is the number of the
 * next one.
 */
function runner(
  so: Progress,
  { document, hands, past }: { document: number; hands: Hands; past?: Map<number, Past> | undefined },
  index: number,
) {
  async function* run(step: Step, phase: Phase, stop: AbortSignal): AsyncGenerator<Told, StepEnding> {
    const place = { document, index: ++index };
    const before = past?.get(place.index);
    if (before && 'ending' in before) return took(so, step, phase, before);
    if (!before) {
      const mark: StepMark = { ...place, step: step.name, phase };
      yield { kind: 'step-started', document, step: step.name, text: describeStep(step), phase, mark };
    }
    const started = performance.now();
    const work = hands.carry(step, place, stop, before);
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
    return took(so, step, phase, ended);
  }
  return { run, next: () => index + 1 };
}

/** The code of a document that had succeeded and was undone since a later one had not. */
export const UNDONE = 'undone';

/**
 * Undoes a plan that had succeeded: `undo` as after a failure behind its last step, then `late`. `ended`: how it had ended.
 * Undefined where there is nothing to undo. Its steps are numbered on from the plan's last one.
 */
export function undoLate(
  plan: Plan,
  ended: Pick<Ending, 'steps' | 'images' | 'files'> & { changed?: boolean | undefined },
  { document, hands, past }: { document: number; hands: Hands; past?: Map<number, Past> },
): AsyncGenerator<Told, Ending> | undefined {
  const begun = new Set(ended.steps.flatMap(({ name, phase }) => (phase === 'do' ? [name] : [])));
  const so: Progress = { begun, cut: new Set(), results: [...ended.steps], seen: {}, files: ended.files };
  const back: Plan = { ...plan, undo: [...plan.undo, ...(plan.late ?? [])] };
  // What measures what it changes knows; a restore changes data.
  const isUnchanged = ended.changed === false && plan.steps.some(step => step.do === 'measure');
  if (isUnchanged || !back.undo.some(step => isDue(step, so))) return undefined;
  const { run } = runner(so, { document, hands, past }, plan.steps.length + plan.undo.length + plan.cleanup.length);
  return (async function* () {
    const undone = yield* undo(back, so, run);
    const images = ended.images.map(change => {
      const is = so.seen.after?.find(seen => seen.service === change.service);
      return { ...change, after: is?.image ?? change.before };
    });
    const told = { steps: so.results, images, files: { written: [], removed: [] } };
    if (!undone.broke) {
      const message = 'It had succeeded, and was undone.';
      return { outcome: 'rolled-back', code: UNDONE, message, ...told, changed: false };
    }
    const [step] = plan.steps.slice(-1);
    const ending: StepEnding = { outcome: 'failed', message: 'It had succeeded, and was to be undone.' };
    const judged = step && judgeFailure(back, { step, ending }, undone, so);
    return { ...judged, outcome: 'failed', code: 'undo-failed', ...told, changed: true };
  })();
}

/** Takes over what a step has come to. */
function took(so: Progress, step: Step, phase: Phase, { ending, ms }: { ending: StepEnding; ms: number }): StepEnding {
  if (phase === 'do') so.begun.add(step.name);
  if (phase === 'do' && ending.cut) so.cut.add(step.name);
  if (step.do === 'measure' && ending.seen) so.seen[step.as] = ending.seen;
  if (ending.backup) so.backup = ending.backup;
  if (ending.drill) so.drill = ending.drill;
  if (phase === 'do' && ending.files) {
    so.files.written.push(...ending.files.written);
    so.files.removed.push(...ending.files.removed);
  }
  so.results.push({ name: step.name, outcome: ending.outcome, ms, phase });
  return ending;
}

function isDue(step: Step, { begun, cut }: Progress): boolean {
  if (step.ifBegan !== undefined && !begun.has(step.ifBegan)) return false;
  if (step.ifCut !== undefined && !cut.has(step.ifCut)) return false;
  return step.unlessBegan === undefined || !begun.has(step.unlessBegan);
}

interface Undone {
  steps: Step[];
  broke: { step: Step; ending: StepEnding } | undefined;
}

const NEVER = new AbortController().signal;

async function* undo(
  plan: Plan,
  so: Progress,
  run: (step: Step, phase: 'undo', stop: AbortSignal) => AsyncGenerator<Told, StepEnding>,
): AsyncGenerator<Told, Undone> {
  const undone: Undone = { steps: [], broke: undefined };
  for (const step of plan.undo) {
    if (undone.broke || !isDue(step, so)) continue;
    const ending = yield* run(step, 'undo', NEVER);
    if (ending.outcome === 'succeeded') undone.steps.push(step);
    else undone.broke = { step, ending };
  }
  return undone;
}

function judgeFailure(
  plan: Plan,
  { step, ending }: { step: Step; ending: StepEnding },
  undone: Undone,
  so: Progress,
): Pick<Ending, 'outcome' | 'code' | 'message' | 'remedy'> {
  const code = ending.code ?? 'step-failed';
  const message = ending.message ?? `The step "${step.name}" did not succeed.`;
  const remedy = ending.remedy === undefined ? {} : { remedy: ending.remedy };
  if (undone.broke) {
    const { step: broken, ending: why } = undone.broke;
    const due = plan.undo.filter(one => isDue(one, so));
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
function begunToChange(plan: Plan, begun: Set<string>, undone: Undone): boolean {
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

function imageChanges(before: Seen[], after: Seen[]): ImageChange[] {
  const services = [...new Set([...before, ...after].map(seen => seen.service))].sort();
  return services.map(service => {
    const was = before.find(seen => seen.service === service);
    const is = after.find(seen => seen.service === service);
    return { service, reference: (is ?? was)?.reference ?? '', before: was?.image ?? null, after: is?.image ?? null };
  });
}

function containerSet(seen: Seen[] = []): string {
  return seen
    .map(one => one.container)
    .sort()
    .join();
}
