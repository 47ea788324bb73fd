import { Failure } from '../plan/failure.ts';
import { failedResult, type StepContext, type StepExecution } from './runner.ts';

/** The wait for an engine that does not answer: it may be restarting. */
export const ENGINE_TIMEOUT_MS = 60_000;

/** Does the work, and does it once more after an engine that did not answer is ready again. */
export async function* retryWhenEngineAnswers(
  { engine, signal }: StepContext,
  work: () => StepExecution,
): StepExecution {
  for (let tried = false; ; tried = true) {
    try {
      return yield* work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (tried || !(await engine.waitUntilReady(ENGINE_TIMEOUT_MS, signal))) return failedResult(error);
    }
  }
}
