import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../../intents/duration.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { DocumentResult } from '../plan/progress.ts';
import type { Blocker } from './lock-queue.ts';

export const LOCK_TIMED_OUT = Symbol('lock timed out');

/** Returns the shortest `lock_wait` of a run's intents in milliseconds; undefined if the run waits without a limit. */
export function lockTimeoutOf(admitted: AdmittedCommand): number | undefined {
  const waits = admitted.documents.flatMap(({ document: { intent } }) =>
    'lock_wait' in intent && intent.lock_wait !== undefined ? [parseDuration(intent.lock_wait)] : [],
  );
  return waits.length === 0 ? undefined : Math.min(...waits);
}

/** Resolves after `timeout` milliseconds, or when `signal` aborts. Never resolves without a timeout. */
export async function waitForLockTimeout(
  timeout: number | undefined,
  signal: AbortSignal,
): Promise<typeof LOCK_TIMED_OUT | undefined> {
  if (timeout === undefined) return new Promise(() => undefined);
  await sleep(timeout, undefined, { signal, ref: false }).catch(() => undefined);
  return LOCK_TIMED_OUT;
}

export function lockedResult(blockedBy: Blocker | undefined): DocumentResult {
  return {
    outcome: 'failed',
    code: 'locked',
    message: blockedBy
      ? `The run ${blockedBy.run} still holds ${blockedBy.subject}. Nothing was changed.`
      : 'Other runs still hold what this run needs. Nothing was changed.',
    remedy: 'Run it again later, or give it a longer lock_wait. "chatops runs" lists the runs in progress.',
    changed: false,
  };
}
