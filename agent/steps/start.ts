import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../plan/failure.ts';
import type { FailureReason, Milliseconds, SecretSource, StartStep } from '../plan/plan.ts';
import type { OutputChunk, StepResult } from '../plan/progress.ts';
import { tailLog } from '../system/log-tail.ts';
import { type ProcessExit, progressOf } from '../system/process.ts';
import type { Redactor } from '../system/redactor.ts';
import { countOrders, type SupervisedProcess, type Supervisor } from '../system/supervisor.ts';
import { summarizeOutput } from './output-summary.ts';
import { ProgressLineFilter } from './progress-lines.ts';

/** How much of the last output is looked at for a failure that passes, and how much of it an error repeats, in bytes. */
const TAIL_BYTES = 4096;
const TOLD_OUTPUT = 500;

/** What a program says that somebody ended by INT or TERM. */
const INTERRUPTED = new Set([130, 143]);

/** Where agent.yaml says nothing. */
const MOST_OUTPUT = 2 ** 30;

/** How often a step whose end nobody knows is carried out again. */
const MOST_REPEATS = 3;

export interface StartStepOptions {
  keeper: Supervisor;
  environment: Record<string, string>;
  /** Reads what a step must not carry with it. */
  secret: (of: SecretSource) => Promise<string | undefined>;
  /** Path of the step's files without their endings. */
  base: string;
  grace: Milliseconds;
  redactor: Redactor;
  /** A step that has printed more is stopped. Bytes. */
  outputLimit?: number | undefined;
  /** Where a step that an earlier agent began goes on: how many bytes of its output have been told. */
  resumed?: { offset: number } | undefined;
}

/**
 * Carries out a `start` step, over as many orders as it takes: a failure that passes is tried again, and so is a repeatable
 * step whose process vanished. All orders append to one log.
 */
export async function* runStartStep(
  step: StartStep,
  options: StartStepOptions,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk, StepResult> {
  const { base, keeper, outputLimit = MOST_OUTPUT } = options;
  const log = `${base}.log`;
  let number = options.resumed ? countOrders(base) : 0;
  let kept: SupervisedProcess | undefined = number > 0 ? keeper.find(`${base}-${number}`) : undefined;
  let offset = options.resumed?.offset ?? 0;
  const heard =
    options.resumed && (step.mustSay || step.mustNotSay || step.fatal)
      ? await readFile(log, 'utf8').catch(() => '')
      : '';
  let repeats = 0;
  const tries = new Map<object, number>();
  for (;;) {
    if (!kept && signal.aborted)
      return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.` };
    try {
      kept ??= await orderProcess(step, options, `${base}-${++number}`, log);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return { outcome: 'failed', code: error.code, message: error.message, remedy: error.remedy };
    }
    const grace = step.grace ?? options.grace;
    const limits = watchLimits(kept, step, signal, grace);
    const said = new OutputChecks(step);
    const redraws = step.redraws ? new ProgressLineFilter() : undefined;
    // What an earlier agent has told counts too.
    said.hear(heard.slice(0, offset));
    let last = Buffer.alloc(0);
    for await (const piece of tailLog(log, kept.exited, offset, options.redactor)) {
      limits.moved();
      said.hear(piece.bytes.toString());
      last = Buffer.concat([last, piece.bytes.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES);
      offset = piece.source.offset + piece.source.length;
      if (offset > outputLimit) limits.flood();
      if (redraws) yield* redraws.take(piece);
      else yield piece;
    }
    if (redraws) yield* redraws.rest();
    const exit = await kept.exited;
    limits.end();
    // What the process left behind must not work on while the step is judged, repeated or undone.
    if (exit.unknown || exit.signal !== null || limits.stopped) await kept.stop(grace);
    const output = last.toString();
    if (!limits.stopped && step.repeatable && (exit.unknown || exit.signal !== null) && ++repeats <= MOST_REPEATS) {
      const how = exit.unknown ? 'Nobody saw how this ended' : `This was ended from outside (${exit.signal})`;
      yield { text: `${how}; it is carried out again, which does no harm.\n` };
      kept = undefined;
      continue;
    }
    const again = limits.stopped || isDone(step, exit) ? undefined : findRetryRule(step, output, tries);
    if (!again) return said.judge(resultOf(step, kept, exit, limits.stopped, output), step);
    yield { text: `That may pass: again in ${again.pause / 1000} s.\n` };
    await sleep(again.pause, undefined, { signal }).catch(() => undefined);
    kept = undefined;
  }
}

/** How many lines of warnings an ending repeats. */
const MOST_WARNINGS = 5;

/** Longer than any text that is looked for. */
const OVERLAP = 512;

/** What a step's output must and must not hold, as it comes. */
class OutputChecks {
  readonly #missing: Set<string>;
  readonly #unwanted: string[];
  readonly #wanted: string[];
  readonly #warnings: string[] = [];
  readonly #prefixes: string[];
  readonly #fatal: NonNullable<StartStep['fatal']>;
  #found: string | undefined;
  #tail = '';
  #line = '';

  constructor({ mustSay = [], mustNotSay = [], warnings = [], fatal = [] }: StartStep) {
    this.#wanted = mustSay;
    this.#missing = new Set(mustSay);
    this.#unwanted = mustNotSay;
    this.#prefixes = warnings;
    this.#fatal = fatal;
  }

  hear(text: string): void {
    if (this.#wanted.length + this.#unwanted.length + this.#prefixes.length + this.#fatal.length === 0) return;
    const heard = this.#tail + text;
    for (const wanted of this.#missing) if (heard.includes(wanted)) this.#missing.delete(wanted);
    this.#found ??= this.#unwanted.find(unwanted => heard.includes(unwanted));
    this.#tail = heard.slice(-OVERLAP);
    const lines = (this.#line + text).split(/[\r\n]/);
    this.#line = lines.pop() ?? '';
    this.#found ??= lines.find(line => this.#isFatal(line));
    this.#warnings.push(...lines.filter(line => this.#prefixes.some(prefix => line.startsWith(prefix))));
  }

  #isFatal(line: string): boolean {
    return this.#fatal.some(
      ({ begins, ends }) => line.startsWith(begins) && (ends.length === 0 || ends.some(end => line.endsWith(end))),
    );
  }

  judge(ending: StepResult, step: StartStep): StepResult {
    if (ending.outcome !== 'succeeded') return ending;
    const [missing] = this.#missing;
    if (missing !== undefined || this.#found !== undefined) {
      const why = this.#found === undefined ? `did not say "${missing}"` : `said "${this.#found}"`;
      const { code, remedy } = step.failure;
      return {
        ...ending,
        outcome: 'failed',
        code,
        message: `"${step.name}" ended with ${ending.exit}, but ${why}.`,
        remedy,
      };
    }
    if (this.#warnings.length === 0) return ending;
    return { ...ending, message: `with warnings: ${this.#warnings.slice(0, MOST_WARNINGS).join(' / ')}` };
  }
}

async function orderProcess(
  step: StartStep,
  { keeper, environment, secret, redactor }: StartStepOptions,
  base: string,
  log: string,
): Promise<SupervisedProcess> {
  await mkdir(dirname(log), { recursive: true, mode: 0o700 });
  await (await open(log, 'a', 0o600)).close();
  const secrets: Record<string, string> = {};
  for (const [name, of] of Object.entries(step.secrets ?? {})) {
    const value = await secret(of);
    if (value === undefined) continue;
    secrets[name] = value;
    redactor.add(value);
  }
  const { stdoutTo = null, stdinFrom = null } = step;
  return keeper.start(
    base,
    { argv: step.argv, cwd: step.cwd ?? null, env: { ...environment, ...step.env }, log, stdoutTo, stdinFrom },
    secrets,
  );
}

/** The rule under which a failure is tried once more, if there is one that has tries left. */
function findRetryRule(step: StartStep, output: string, tries: Map<object, number>) {
  const rule = step.retry?.find(({ on }) => on.some(text => output.includes(text)));
  if (!rule) return undefined;
  const tried = tries.get(rule) ?? 0;
  tries.set(rule, tried + 1);
  return tried < rule.times ? rule : undefined;
}

type StopReason = 'cancelled' | 'step-timeout' | 'step-stalled' | 'output-too-large';

/** Stops the process at its deadline, when it stalls, or when the run is cancelled, and remembers which it was. */
function watchLimits(kept: SupervisedProcess, step: StartStep, signal: AbortSignal, grace: Milliseconds) {
  const limits = {
    stopped: undefined as StopReason | undefined,
    moved: () => stall?.refresh(),
    flood: () => stop('output-too-large'),
    end() {
      clearTimeout(deadline);
      clearTimeout(stall);
      signal.removeEventListener('abort', cancel);
    },
  };
  const stop = (why: StopReason) => {
    limits.stopped ??= why;
    void kept.stop(grace);
  };
  const cancel = () => stop('cancelled');
  // An order of an earlier agent has used some of its time; a clock that jumped gives it at most the whole of it again.
  const used = Math.min(Math.max(Date.now() - Date.parse(kept.order.at), 0), step.timeout);
  const deadline = setTimeout(() => stop('step-timeout'), Math.max(step.timeout - used, 1_000));
  let progress = -1;
  const stall =
    step.stallTimeout === undefined
      ? undefined
      : setTimeout(() => {
          const now = progressOf(kept.pid() ?? 0);
          if (now === progress) return stop('step-stalled');
          progress = now;
          stall?.refresh();
        }, step.stallTimeout / 2);
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel);
  return limits;
}

function isDone(step: StartStep, exit: ProcessExit): boolean {
  return exit.code !== null && (step.okCodes ?? [0]).includes(exit.code);
}

function resultOf(
  step: StartStep,
  kept: SupervisedProcess,
  exit: ProcessExit,
  stopped: StopReason | undefined,
  output: string,
): StepResult {
  const line = step.argv.join(' ');
  const said = output.slice(-TOLD_OUTPUT).trim() || 'none';
  if (exit.missing !== undefined) {
    return {
      outcome: 'failed',
      code: 'program-missing',
      message: `"${line}" could not be started: ${exit.missing}`,
      remedy: `Install ${step.argv[0]} on the host${step.cwd ? `, and check that ${step.cwd} exists` : ''}.`,
    };
  }
  const ended = { exit: exit.code ?? exit.signal ?? 'unknown' };
  switch (stopped) {
    case 'cancelled':
      return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.`, cut: true, ...ended };
    case 'output-too-large':
      return {
        outcome: 'failed',
        code: stopped,
        message: `"${line}" had printed more than a step may, and was stopped. Its last output: ${said}`,
        remedy: 'Have it print less, or raise limits.output in agent.yaml.',
        cut: true,
        ...ended,
      };
    case 'step-timeout':
    case 'step-stalled': {
      const why =
        stopped === 'step-timeout'
          ? `had not ended after ${Math.round(step.timeout / 1000)} s`
          : `had printed nothing and not got on for ${Math.round((step.stallTimeout ?? 0) / 1000)} s`;
      return {
        outcome: 'failed',
        code: stopped,
        message: `"${line}" (pid ${kept.pid()}) ${why} and was stopped. Its last output: ${said}`,
        remedy:
          'Give the intent a longer "timeout" if this can take so long; otherwise run the command on the host to see where it hangs.',
        cut: true,
        ...ended,
      };
    }
  }
  if (isDone(step, exit)) return { outcome: 'succeeded', ...ended };
  if (exit.code !== null && step.okAtLast?.includes(exit.code)) return { outcome: 'succeeded', ...ended };
  if (exit.code === null) {
    return {
      outcome: 'failed',
      code: 'step-lost',
      message: `"${line}" ended ${exit.unknown ? 'and nobody saw how' : `by ${exit.signal}, which the agent did not send`}. Its last output: ${said}`,
      remedy: 'Look for the kernel’s out-of-memory messages ("dmesg"), look at the stack, and run the intent again.',
      cut: true,
      ...ended,
    };
  }
  const { code, remedy } = step.reasons?.find(reason => matchesReason(reason, exit.code, output)) ?? step.failure;
  return {
    outcome: 'failed',
    code,
    message: `"${step.name}" ended with exit code ${exit.code}: ${summarizeOutput(output)}`,
    remedy,
    ...(INTERRUPTED.has(exit.code) ? { cut: true as const } : {}),
    ...ended,
  };
}

function matchesReason({ exit, says }: FailureReason, code: number | null, output: string): boolean {
  return (
    (exit === undefined || (code !== null && exit.includes(code))) && (says === undefined || output.includes(says))
  );
}
