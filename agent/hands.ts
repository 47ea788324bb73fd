import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Hands, Piece, Seen, StepEnding } from './carry-out.ts';
import { type Engine, serviceOf } from './docker.ts';
import { changeFiles, FileFailure, restoreFiles } from './files.ts';
import { awaitHealthy, containersOf } from './health.ts';
import { CannotPlan, type FileChange, type Start, type Step } from './plan.ts';
import { type Child, startProcess } from './process.ts';
import { tail } from './tail.ts';

type Doing = AsyncGenerator<Piece, StepEnding>;

/** Longer than compose's own patience with a container that ignores TERM (10 s by default). */
const GRACE_MS = 30_000;
/** How much of the last output an error repeats, in bytes. */
const TOLD_OUTPUT = 500;

const SUCCEEDED: StepEnding = { outcome: 'succeeded' };

export interface HandsOptions {
  engine: Engine;
  environment: Record<string, string>;
  /** The run's own folder: step output, what was replaced, the command's files. */
  runDir: string;
  grace?: number;
}

/** The hands of one run on this host. */
export function createHands(options: HandsOptions): Hands {
  return {
    carry(step, place, signal): Doing {
      switch (step.do) {
        case 'start':
          return start(step, join(options.runDir, `${place.document}-${place.index}.log`), options, signal);
        case 'write':
          return files(
            step,
            changeFiles(step.changes, keptDir(options, place.document, step.name), contentOf(options)),
          );
        case 'restore':
          return files(step, restoreFiles(keptDir(options, place.document, step.of)));
        case 'await-healthy':
          return health(options.engine, step, signal);
        case 'measure':
          return measure(options.engine, step);
      }
    },
  };
}

/** Where a `write` step keeps what it replaced. */
function keptDir(options: HandsOptions, document: number, step: string): string {
  return join(options.runDir, 'kept', `${document}-${step.replaceAll(/[^a-z0-9]+/g, '-')}`);
}

/** Where the command's files lie until they are put in place: by the SHA-256 of their content. */
export function shippedPath(runDir: string, sha256: string): string {
  return join(runDir, 'shipped', sha256);
}

function contentOf(options: HandsOptions) {
  return async (change: FileChange): Promise<Buffer> => {
    if ('remove' in change) return Buffer.alloc(0);
    if ('text' in change.content) return Buffer.from(change.content.text);
    return readFile(shippedPath(options.runDir, change.content.shipped));
  };
}

async function* start(step: Start, logFile: string, options: HandsOptions, signal: AbortSignal): Doing {
  const log = await open(logFile, 'a', 0o600);
  if (step.stdoutTo !== undefined) await mkdir(dirname(step.stdoutTo), { recursive: true });
  const stdout = step.stdoutTo === undefined ? undefined : await open(step.stdoutTo, 'w', 0o600);
  const began = Date.now();
  const child = startProcess(step.argv, {
    cwd: step.cwd,
    env: { ...options.environment, ...step.env },
    stdout: (stdout ?? log).fd,
    stderr: log.fd,
  });
  await stdout?.close();
  await log.close();

  const limits = watchLimits(child, step, signal, options.grace ?? GRACE_MS);
  let last = Buffer.alloc(0);
  for await (const piece of tail(logFile, child.exited)) {
    limits.moved();
    last = Buffer.concat([last, piece.bytes.subarray(-TOLD_OUTPUT)]).subarray(-TOLD_OUTPUT);
    yield piece;
  }
  const exit = await child.exited;
  limits.end();

  const line = step.argv.join(' ');
  if (exit.missing !== undefined) {
    return {
      outcome: 'failed',
      code: 'program-missing',
      message: `"${line}" could not be started: ${exit.missing}`,
      remedy: `Install ${step.argv[0]} on the host${step.cwd ? `, and check that ${step.cwd} exists` : ''}.`,
    };
  }
  const ended = exit.code ?? exit.signal ?? 'unknown';
  switch (limits.stopped) {
    case 'cancelled':
      return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.`, exit: ended };
    case 'step-timeout':
    case 'step-stalled': {
      const why =
        limits.stopped === 'step-timeout'
          ? `had not ended after ${Math.round((Date.now() - began) / 1000)} s`
          : `had printed nothing for ${Math.round((step.stallTimeout ?? 0) / 1000)} s`;
      return {
        outcome: 'failed',
        code: limits.stopped,
        message: `"${line}" (pid ${child.pid}) ${why} and was stopped. Its last output: ${last.toString().trim() || 'none'}`,
        remedy:
          'Give the intent a longer "timeout" if this can take so long; otherwise run the command on the host to see where it hangs.',
        exit: ended,
      };
    }
  }
  if (exit.code !== null && (step.okCodes ?? [0]).includes(exit.code)) return { ...SUCCEEDED, exit: exit.code };
  return {
    outcome: 'failed',
    code: step.failure.code,
    message: `"${step.name}" ended with ${exit.code === null ? exit.signal : `exit code ${exit.code}`}: ${lastWords(last.toString())}`,
    remedy: step.failure.remedy,
    exit: ended,
  };
}

/** Stops the child at its deadline, when it stalls, or when the run is cancelled, and remembers which it was. */
function watchLimits(child: Child, step: Start, signal: AbortSignal, grace: number) {
  const limits = {
    stopped: undefined as 'cancelled' | 'step-timeout' | 'step-stalled' | undefined,
    moved: () => stall?.refresh(),
    end() {
      clearTimeout(deadline);
      clearTimeout(stall);
      signal.removeEventListener('abort', cancel);
    },
  };
  const stop = (why: NonNullable<typeof limits.stopped>) => {
    limits.stopped ??= why;
    void child.stop(grace);
  };
  const cancel = () => stop('cancelled');
  const deadline = setTimeout(() => stop('step-timeout'), step.timeout);
  const stall = step.stallTimeout === undefined ? undefined : setTimeout(() => stop('step-stalled'), step.stallTimeout);
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel);
  return limits;
}

function lastWords(output: string): string {
  const lines = output.split(/[\r\n]+/).filter(line => line.trim() !== '');
  return lines.slice(-3).join(' / ').trim() || 'it printed nothing';
}

async function* files(step: Step, changing: AsyncGenerator<{ path: string; did: 'written' | 'removed' }>): Doing {
  const done = { written: new Set<string>(), removed: new Set<string>() };
  try {
    for await (const { path, did } of changing) {
      if (!done[did].has(path)) yield { text: `${did} ${path}\n` };
      done[did].add(path);
    }
  } catch (error) {
    if (!(error instanceof FileFailure)) throw error;
    return { outcome: 'failed', code: error.code, message: `"${step.name}": ${error.message}`, remedy: error.remedy };
  }
  return { outcome: 'succeeded', files: { written: [...done.written], removed: [...done.removed] } };
}

async function* health(engine: Engine, step: Extract<Step, { do: 'await-healthy' }>, signal: AbortSignal): Doing {
  try {
    const waiting = awaitHealthy(engine, step, signal);
    let next = await waiting.next();
    for (; !next.done; next = await waiting.next()) yield { text: next.value };
    const { ok, ...why } = next.value;
    if (ok) return SUCCEEDED;
    return { outcome: why.code === 'cancelled' ? 'cancelled' : 'failed', ...why };
  } catch (error) {
    return engineFailure(error);
  }
}

async function* measure(engine: Engine, step: Extract<Step, { do: 'measure' }>): Doing {
  try {
    const containers = await containersOf(engine, step.project);
    const seen: Seen[] = containers
      .filter(container => container.State !== 'created')
      .map(container => ({
        service: serviceOf(container),
        container: container.Id,
        reference: container.Image,
        image: container.ImageID,
      }));
    for (const one of seen) yield { text: `${one.service}: ${one.reference} ${one.image.slice(0, 19)}\n` };
    return { outcome: 'succeeded', seen };
  } catch (error) {
    return engineFailure(error);
  }
}

function engineFailure(error: unknown): StepEnding {
  if (!(error instanceof CannotPlan)) throw error;
  return { outcome: 'failed', code: error.code, message: error.message, remedy: error.remedy };
}
