import type { CircuitBreakers } from '../outbound/circuit-breaker.ts';
import type { DockerEngine } from '../outbound/docker.ts';
import type { Failure } from '../plan/failure.ts';
import type { Milliseconds, Step } from '../plan/plan.ts';
import type { OutputChunk, StepResult } from '../plan/progress.ts';
import type { Redactor } from '../system/redactor.ts';
import type { Supervisor } from '../system/supervisor.ts';

/** Yields output and returns the result. A step that fails is data; only a fault of the agent is thrown. */
export type StepExecution = AsyncGenerator<OutputChunk, StepResult>;

/** Runs the steps of one kind. */
export type Runner<K extends Step['do']> = (step: Extract<Step, { do: K }>, context: StepContext) => StepExecution;

/** The step's place in its run, and everything that a runner uses to change the host. */
export interface StepContext {
  /** The document's number in the command, from 1. */
  document: number;
  /** The run's own folder: output, replaced files, and the command's files. */
  runDir: string;
  /** Path of the step's own files in that folder, without their extension. */
  base: string;
  signal: AbortSignal;
  /** Present if an earlier agent started the step: the number of bytes of its output that were logged. */
  resumed: { offset: number } | undefined;
  engine: DockerEngine;
  supervisor: Supervisor;
  environment: Record<string, string>;
  /** Time between TERM and KILL, unless the step has its own. */
  grace: Milliseconds;
  /** Learns the secrets that a step reads. */
  redactor: Redactor;
  /** The bytes that a step may print. */
  outputLimit: number | undefined;
  circuits: CircuitBreakers | undefined;
}

export const SUCCEEDED: StepResult = { outcome: 'succeeded' };

/** Returns the result of a step that was cancelled before it finished. */
export function cancelledResult(name: string): StepResult {
  return { outcome: 'cancelled', code: 'cancelled', message: `"${name}" was cancelled.` };
}

/** Returns a failure as the result of a step. */
export function failedResult({ code, message, remedy }: Pick<Failure, 'code' | 'message' | 'remedy'>): StepResult {
  return { outcome: 'failed', code, message, remedy };
}
