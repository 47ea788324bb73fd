import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../../intents/duration.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { DocumentResult } from '../plan/progress.ts';

export const LOCK_TIMED_OUT = Symbol('patience over');

/** How long a run waits for its turn, in milliseconds: the shortest `lock_wait` of its intents; undefined: until it comes. */
export function lockTimeoutOf(admitted: AdmittedCommand): number | undefined {
  const waits = admitted.documents.flatMap(({ document: { intent } }) =>
    'lock_wait' in intent && intent.lock_wait !== undefined ? [parseDuration(intent.lock_wait)] : [],
  );
  return waits.length === 0 ? undefined : Math.min(...waits);
}

export async function waitForLockTimeout(
  patience: number | undefined,
  signal: AbortSignal,
): Promise<typeof LOCK_TIMED_OUT | undefined> {
  if (patience === undefined) return new Promise(() => undefined);
  await sleep(patience, undefined, { signal, ref: false }).catch(() => undefined);
  return LOCK_TIMED_OUT;
}

export function lockedResult(by: { run: string; subject: string } | undefined): DocumentResult {
  return {
    outcome: 'failed',
    code: 'locked',
    message: `The run ${by?.run ?? ''} still has ${by?.subject ?? 'what this one needs'}. Nothing was changed.`,
    remedy: 'Run it again later, or give it a longer lock_wait. "chatops runs" tells what goes on.',
    changed: false,
  };
}
