import type { Happening, Outcome, StepOutcome } from '../protocol/event.ts';
import type { ImageChange, StepResult } from '../protocol/receipt.ts';
import type { Plan, Step } from './plan.ts';
import type { Source } from './tail.ts';

/** A piece of output: text, or UTF-8 bytes with the place where they are stored already. */
export type Piece = { text: string } | { bytes: Buffer; source: Source };

/** A happening, where output may be a stored piece. */
export type Told =
  | Exclude<Happening, { kind: 'output' }>
  | ({ kind: 'output'; document: number; step: string } & Piece);

/** A container as a `measure` step saw it. `image` is the image's id (`sha256:…`). */
export interface Seen {
  service: string;
  container: string;
  reference: string;
  image: string;
}

/** How one step ended. A step that did not do it is data, not an exception. */
export interface StepEnding {
  outcome: Exclude<StepOutcome, 'skipped'>;
  code?: string;
  message?: string;
  remedy?: string;
  exit?: number | string;
  seen?: Seen[];
  files?: { written: string[]; removed: string[] };
}

/** What carries out one step of a kind. Yields output; throws only for a fault of ours. */
export interface Hands {
  carry(step: Step, place: { document: number; index: number }, signal: AbortSignal): AsyncGenerator<Piece, StepEnding>;
}

/** How a plan ended. */
export interface Ending {
  outcome: Extract<Outcome, 'succeeded' | 'failed' | 'rolled-back' | 'cancelled'>;
  failedStep?: string;
  code?: string;
  message?: string;
  remedy?: string;
  steps: StepResult[];
  images: ImageChange[];
  files: { written: string[]; removed: string[] };
  changed: boolean;
}

/**
 * Plan in, happenings out: `steps` in order; after a failure or a cancel `undo`; at the end, whatever happened, `cleanup`.
 * Knows no executor, no socket and no store.
 */
export async function* carryOut(
  plan: Plan,
  { document, hands, signal }: { document: number; hands: Hands; signal: AbortSignal },
): AsyncGenerator<Told, Ending> {
  const begun = new Set<string>();
  const results: StepResult[] = [];
  const seen: { before?: Seen[]; after?: Seen[] } = {};
  const files = { written: [] as string[], removed: [] as string[] };
  let index = 0;
  let failed: { step: Step; ending: StepEnding } | undefined;

  async function* run(
    step: Step,
    phase: 'do' | 'undo' | 'cleanup',
    stop: AbortSignal,
  ): AsyncGenerator<Told, StepEnding> {
    yield { kind: 'step-started', document, step: step.name, text: describeStep(step), phase };
    if (phase === 'do') begun.add(step.name);
    const started = performance.now();
    const work = hands.carry(step, { document, index: ++index }, stop);
    let next = await work.next();
    for (; !next.done; next = await work.next()) yield { kind: 'output', document, step: step.name, ...next.value };
    const ending = next.value;
    const ms = Math.round(performance.now() - started);
    if (step.do === 'measure' && ending.seen) seen[step.as] = ending.seen;
    if (phase === 'do' && ending.files) {
      files.written.push(...ending.files.written);
      files.removed.push(...ending.files.removed);
    }
    results.push({ name: step.name, outcome: ending.outcome, ms, phase });
    const { outcome, code, message, exit } = ending;
    yield {
      kind: 'step-finished',
      document,
      step: step.name,
      outcome,
      ms,
      ...(code === undefined ? {} : { code }),
      ...(message === undefined ? {} : { message }),
      ...(exit === undefined ? {} : { exit }),
    };
    return ending;
  }

  for (const step of plan.steps) {
    if (failed || signal.aborted) {
      failed ??= { step, ending: { outcome: 'cancelled', code: 'cancelled', message: 'Cancelled before this step.' } };
      results.push({ name: step.name, outcome: 'skipped', ms: 0, phase: 'do' });
      continue;
    }
    const ending = yield* run(step, 'do', signal);
    if (ending.outcome !== 'succeeded') failed = { step, ending };
  }

  let undone: Undone = { steps: [], broke: undefined };
  if (failed) undone = yield* undo(plan, begun, run);
  for (const step of plan.cleanup) {
    if (isDue(step, begun)) yield* run(step, 'cleanup', NEVER);
  }

  const images = imageChanges(seen.before ?? [], seen.after ?? []);
  const replaced = seen.after !== undefined && containerSet(seen.before) !== containerSet(seen.after);
  if (!failed) {
    const changed = replaced || files.written.length + files.removed.length > 0;
    return { outcome: 'succeeded', steps: results, images, files, changed };
  }
  return {
    ...judgeFailure(failed, undone),
    failedStep: failed.step.name,
    steps: results,
    images,
    files,
    changed: begunToChange(plan, begun, undone),
  };
}

function isDue(step: Step, begun: Set<string>): boolean {
  if (step.ifBegan !== undefined && !begun.has(step.ifBegan)) return false;
  return step.unlessBegan === undefined || !begun.has(step.unlessBegan);
}

interface Undone {
  steps: Step[];
  broke: { step: Step; ending: StepEnding } | undefined;
}

const NEVER = new AbortController().signal;

async function* undo(
  plan: Plan,
  begun: Set<string>,
  run: (step: Step, phase: 'undo', stop: AbortSignal) => AsyncGenerator<Told, StepEnding>,
): AsyncGenerator<Told, Undone> {
  const undone: Undone = { steps: [], broke: undefined };
  for (const step of plan.undo) {
    if (undone.broke || !isDue(step, begun)) continue;
    const ending = yield* run(step, 'undo', NEVER);
    if (ending.outcome === 'succeeded') undone.steps.push(step);
    else undone.broke = { step, ending };
  }
  return undone;
}

function judgeFailure(
  { step, ending }: { step: Step; ending: StepEnding },
  undone: Undone,
): Pick<Ending, 'outcome' | 'code' | 'message' | 'remedy'> {
  const code = ending.code ?? 'step-failed';
  const message = ending.message ?? `The step "${step.name}" did not succeed.`;
  const remedy = ending.remedy === undefined ? {} : { remedy: ending.remedy };
  if (undone.broke) {
    const { step: broken, ending: why } = undone.broke;
    return {
      outcome: 'failed',
      code: 'undo-failed',
      message: `${message} Undoing it failed too, at "${broken.name}": ${why.message ?? why.code ?? 'no reason given'}.`,
      remedy: `Look at the host now. By hand: ${describeStep(broken)}`,
    };
  }
  const putBack = undone.steps.some(done => done.do === 'start');
  if (ending.outcome === 'cancelled') return { outcome: 'cancelled', code, message, ...remedy };
  if (putBack)
    return { outcome: 'rolled-back', code, message: `${message} What was there before runs again.`, ...remedy };
  return { outcome: 'failed', code, message, ...remedy };
}

/** Whether the host is left changed after a failure: a process was started that changes services and was not undone, or files stay. */
function begunToChange(plan: Plan, begun: Set<string>, undone: Undone): boolean {
  if (undone.broke) return true;
  const restored = new Set(undone.steps.flatMap(step => (step.do === 'restore' ? [step.of] : [])));
  const putBack = undone.steps.some(step => step.do === 'start');
  return plan.steps.some(
    step =>
      begun.has(step.name) &&
      ((step.do === 'write' && !restored.has(step.name)) || (step.do === 'start' && step.changes === true && !putBack)),
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

/** One line for people: the log's, the dry run's and the audit's. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'start':
      return step.argv
        .map(word => (/^[\w@%+=:,./*-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
        .join(' ');
    case 'write': {
      const told = step.changes.filter(change => !change.own);
      return told.map(change => `${'remove' in change ? 'remove' : 'write'} ${change.path}`).join(', ');
    }
    case 'restore':
      return `put back the files that "${step.of}" changed`;
    case 'await-healthy': {
      const who = step.project.services?.join(', ') ?? 'every service';
      return `wait until ${who} in ${step.project.dir} is healthy (at most ${step.timeout / 1000} s)`;
    }
    case 'measure':
      return `record images ${step.as} (${step.project.services?.join(', ') ?? 'every service'} in ${step.project.dir})`;
  }
}
