import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../plan/failure.ts';
import type { FailureReason, Milliseconds, StartStep } from '../plan/plan.ts';
import type { OutputChunk, StepResult } from '../plan/progress.ts';
import { readJson, writeDurably } from '../system/durable-files.ts';
import { toReadable } from '../system/hidden-text.ts';
import { CHUNK_BYTES, type TailedChunk, tailLog } from '../system/log-tail.ts';
import { measureProgress, type ProcessExit } from '../system/process.ts';
import { countOrders, type SupervisedProcess } from '../system/supervisor.ts';
import { OutputChecks, type OutputChecksState } from './output-checks.ts';
import { summarizeOutput } from './output-summary.ts';
import { ProgressLineFilter } from './progress-lines.ts';
import { cancelledResult, failedResult, type StepContext, type StepExecution } from './runner.ts';
import { readSecret } from './secret-source.ts';

/** Bytes of the last output from which a message is made, and that it repeats. */
const TAIL_BYTES = 4096;
const REPEATED_BYTES = 500;

/** The exit codes of a program that handles INT or TERM. */
const INTERRUPTED = new Set([130, 143]);

/** The default of `limits.output` in agent.yaml. */
const DEFAULT_OUTPUT_LIMIT = 2 ** 30;

/** Repeats of a step whose exit code is unknown. */
const MAX_REPEATS = 3;

/**
 * Runs a `start` step with as many orders as it takes: a temporary failure is tried again, and so is a repeatable step whose
 * process vanished. All orders append to one log. The raw output decides; people get the redacted one.
 */
export async function* runStart(step: StartStep, context: StepContext): StepExecution {
  const { base, supervisor, signal, resumed, redactor, outputLimit = DEFAULT_OUTPUT_LIMIT } = context;
  const log = `${base}.log`;
  let orders = resumed ? countOrders(base) : 0;
  let process: SupervisedProcess | undefined = orders > 0 ? supervisor.find(`${base}-${orders}`) : undefined;
  let offset = resumed?.offset ?? 0;
  if (process) await learnSecrets(step, context).catch(() => undefined);
  let repeats = 0;
  const tries = new Map<object, number>();
  for (;;) {
    if (!process && signal.aborted) return cancelledResult(step.name);
    try {
      process ??= await orderProcess(step, context, `${base}-${++orders}`, log);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return failedResult(error);
    }
    const grace = step.grace ?? context.grace;
    const limits = watchLimits(process, step, signal, grace);
    const { checks, tail: earlierTail } = await startChecks(step, context, process, orders, offset);
    const filter = step.redraws ? new ProgressLineFilter() : undefined;
    let tail = earlierTail;
    const inspect = async (chunk: TailedChunk, isRedacted: boolean) => {
      checks.add(chunk);
      if (isRedacted) await writeDurably(checksFileOf(base), JSON.stringify(checks.state));
    };
    for await (const chunk of tailLog(log, process.exited, offset, redactor, inspect)) {
      limits.extendStall();
      tail = Buffer.concat([tail, chunk.bytes.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES);
      offset = chunk.source.offset + chunk.source.length;
      if (offset > outputLimit) limits.stop('output-too-large');
      yield* (filter ? filter.add(chunk) : [chunk]).map(toOutput);
    }
    if (filter) yield* filter.flush().map(toOutput);
    const exit = await process.exited;
    limits.clear();
    if (exit.exceeded) limits.stopped ??= exit.exceeded === 'size' ? 'output-too-large' : 'destination-full';
    // Processes that the step left running must not work on while the step is checked, repeated or undone.
    if (exit.unknown || exit.signal !== null || limits.stopped) await process.stop(grace);
    const output = toReadable(tail).toString();
    if (!limits.stopped && step.repeatable && (exit.unknown || exit.signal !== null) && ++repeats <= MAX_REPEATS) {
      const cause = exit.unknown ? 'The exit code is unknown' : `The process was ended by ${exit.signal} from outside`;
      yield { text: `${cause}; the step runs again, which is safe.\n` };
      process = undefined;
      continue;
    }
    const retry = limits.stopped || isSuccess(step, exit) ? undefined : findRetryRule(step, checks, tries);
    if (!retry) return checks.apply(resultOf(step, process, exit, limits.stopped, checks, output));
    yield { text: `The failure may be temporary; trying again in ${retry.pause / 1000} s.\n` };
    await sleep(retry.pause, undefined, { signal }).catch(() => undefined);
    process = undefined;
  }
}

const checksFileOf = (base: string) => `${base}.checks`;

/** Returns the bytes of a log as they are sent and stored. */
function toOutput({ bytes, source }: Pick<TailedChunk, 'bytes' | 'source'>): OutputChunk {
  return { bytes: toReadable(bytes), source };
}

/**
 * Returns the checks of an order's output, and its last output for people. Both know what an earlier agent has read: from the
 * state that it kept before it redacted the log, and from the log.
 */
async function startChecks(
  step: StartStep,
  { base }: StepContext,
  { order }: SupervisedProcess,
  number: number,
  offset: number,
): Promise<{ checks: OutputChecks; tail: Buffer }> {
  const file = `${base}.log`;
  const checks = new OutputChecks(step, number, order.from ?? 0, readJson<OutputChecksState>(checksFileOf(base)));
  let tail = Buffer.alloc(0);
  const handle = await open(file, 'r');
  try {
    const readPart = async (from: number, to: number) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(to - from), 0, to - from, from);
      return buffer.subarray(0, bytesRead);
    };
    while (checks.offset < offset) {
      const start = checks.offset;
      const bytes = await readPart(start, Math.min(start + CHUNK_BYTES, offset));
      if (bytes.length === 0) break;
      checks.add({ bytes, raw: bytes, source: { file, offset: start, length: bytes.length } });
    }
    const start = Math.max(order.from ?? 0, offset - TAIL_BYTES);
    if (start < offset) tail = await readPart(start, offset);
  } finally {
    await handle.close();
  }
  return { checks, tail };
}

async function orderProcess(
  step: StartStep,
  context: StepContext,
  base: string,
  log: string,
): Promise<SupervisedProcess> {
  const { supervisor, environment, outputLimit = DEFAULT_OUTPUT_LIMIT } = context;
  await mkdir(dirname(log), { recursive: true, mode: 0o700 });
  const handle = await open(log, 'a', 0o600);
  const { size: from } = await handle.stat();
  await handle.close();
  const secrets = await learnSecrets(step, context);
  const { argv, cwd = null, stdoutTo = null, stdinFrom = null, opens = [] } = step;
  const limits = { log: outputLimit, stdout: step.stdoutLimit ?? { size: outputLimit } };
  return supervisor.start(
    base,
    { argv, cwd, env: { ...environment, ...step.env }, log, from, stdoutTo, stdinFrom, opens, limits },
    secrets,
  );
}

/** Reads the step's secrets, which the redactor learns. Throws Failure, as {@link readSecret} does. */
async function learnSecrets(step: StartStep, { engine, redactor }: StepContext): Promise<Record<string, string>> {
  const secrets: Record<string, string> = {};
  for (const [name, source] of Object.entries(step.secrets ?? {})) {
    const value = await readSecret(source, engine);
    if (value === undefined) continue;
    secrets[name] = value;
    redactor.add({ value, names: [name] });
  }
  return secrets;
}

/** Returns the rule that allows another try, if one has tries left. */
function findRetryRule(step: StartStep, checks: OutputChecks, tries: Map<object, number>) {
  const rule = step.retry?.find(({ on }) => on.some(text => checks.saidLately(text)));
  if (!rule) return undefined;
  const tried = tries.get(rule) ?? 0;
  tries.set(rule, tried + 1);
  return tried < rule.times ? rule : undefined;
}

type StopReason = 'cancelled' | 'step-timeout' | 'step-stalled' | 'output-too-large' | 'destination-full';

/** Stops the process at its deadline, on a stall or when the run is cancelled, and keeps the first reason. */
function watchLimits(process: SupervisedProcess, step: StartStep, signal: AbortSignal, grace: Milliseconds) {
  const limits = {
    stopped: undefined as StopReason | undefined,
    stop(reason: StopReason) {
      limits.stopped ??= reason;
      void process.stop(grace);
    },
    extendStall: () => stall?.refresh(),
    clear() {
      clearTimeout(deadline);
      clearTimeout(stall);
      signal.removeEventListener('abort', cancel);
    },
  };
  const cancel = () => limits.stop('cancelled');
  // An order of an earlier agent has used some of its time; a clock that jumped gives it at most the whole of it again.
  const used = Math.min(Math.max(Date.now() - Date.parse(process.order.at), 0), step.timeout);
  const deadline = setTimeout(() => limits.stop('step-timeout'), Math.max(step.timeout - used, 1_000));
  let lastProgress = -1;
  const stall =
    step.stallTimeout === undefined
      ? undefined
      : setTimeout(() => {
          const progress = measureProgress(process.pid() ?? 0);
          if (progress === lastProgress) return limits.stop('step-stalled');
          lastProgress = progress;
          stall?.refresh();
        }, step.stallTimeout / 2);
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel);
  return limits;
}

function isSuccess(step: StartStep, exit: ProcessExit): boolean {
  return exit.code !== null && (step.okCodes ?? [0]).includes(exit.code);
}

function resultOf(
  step: StartStep,
  process: SupervisedProcess,
  exit: ProcessExit,
  stopped: StopReason | undefined,
  checks: OutputChecks,
  output: string,
): StepResult {
  const line = step.argv.join(' ');
  const lastOutput = output.slice(-REPEATED_BYTES).trim() || 'none';
  if (exit.missing !== undefined) {
    return failedResult({
      code: 'program-missing',
      message: `"${line}" could not be started: ${exit.missing}`,
      remedy: `Install ${step.argv[0]} on the host${step.cwd ? `, and check that ${step.cwd} exists` : ''}.`,
    });
  }
  if (exit.refused) return failedResult({ ...exit.refused, message: `"${step.name}": ${exit.refused.message}` });
  const ended = { exit: exit.code ?? exit.signal ?? 'unknown' };
  switch (stopped) {
    case 'cancelled':
      return { ...cancelledResult(step.name), cut: true, ...ended };
    case 'output-too-large':
      return {
        ...failedResult({
          code: stopped,
          message: `"${line}" printed more than a step may print and was stopped. Its last output: ${lastOutput}`,
          remedy: 'Have it print less, or raise limits.output in agent.yaml.',
        }),
        cut: true,
        ...ended,
      };
    case 'destination-full':
      return {
        ...failedResult({
          code: stopped,
          message: `"${step.name}" was stopped before ${step.stdoutTo} filled its disk.`,
          remedy: 'Free space there, or lower min_free in agent.yaml.',
        }),
        cut: true,
        ...ended,
      };
    case 'step-timeout':
    case 'step-stalled': {
      const why =
        stopped === 'step-timeout'
          ? `did not end within ${Math.round(step.timeout / 1000)} s`
          : `printed nothing and made no progress for ${Math.round((step.stallTimeout ?? 0) / 1000)} s`;
      return {
        ...failedResult({
          code: stopped,
          message: `"${line}" (pid ${process.pid()}) ${why} and was stopped. Its last output: ${lastOutput}`,
          remedy:
            'Give the intent a longer "timeout" if this may take so long. Otherwise run the command on the host to see where it hangs.',
        }),
        cut: true,
        ...ended,
      };
    }
  }
  if (isSuccess(step, exit)) return { outcome: 'succeeded', ...ended };
  if (exit.code !== null && step.okAtLast?.includes(exit.code)) return { outcome: 'succeeded', ...ended };
  if (exit.code === null) {
    const why = exit.unknown
      ? 'ended with an unknown exit code'
      : `was ended by ${exit.signal}, which the agent did not send`;
    return {
      ...failedResult({
        code: 'step-lost',
        message: `"${line}" ${why}. Its last output: ${lastOutput}`,
        remedy: 'Look for out-of-memory messages of the kernel ("dmesg"), check the stack, and run the intent again.',
      }),
      cut: true,
      ...ended,
    };
  }
  const { code, remedy } = step.reasons?.find(reason => matchesReason(reason, exit.code, checks)) ?? step.failure;
  const message = `"${step.name}" ended with exit code ${exit.code}: ${summarizeOutput(output)}`;
  const cut = INTERRUPTED.has(exit.code) ? { cut: true as const } : {};
  return { ...failedResult({ code, message, remedy }), ...cut, ...ended };
}

function matchesReason({ exit, says }: FailureReason, code: number | null, checks: OutputChecks): boolean {
  return (
    (exit === undefined || (code !== null && exit.includes(code))) && (says === undefined || checks.saidLately(says))
  );
}
