import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../../intents/duration.ts';
import type { Admitted } from '../admission/admitted.ts';
import type { DocumentEnding } from '../plan/progress.ts';

export const PATIENCE_OVER = Symbol('patience over');

/** How long a run waits for its turn, in milliseconds: the shortest `lock_wait` of its intents; undefined: until it comes. */
export function patienceOf(admitted: Admitted): number | undefined {
  const waits = admitted.documents.flatMap(({ document: { intent } }) =>
    'lock_wait' in intent && intent.lock_wait !== undefined ? [parseDuration(intent.lock_wait)] : [],
  );
  return waits.length === 0 ? undefined : Math.min(...waits);
}

export async function patienceEnds(
  patience: number | undefined,
  signal: AbortSignal,
): Promise<typeof PATIENCE_OVER | undefined> {
  if (patience === undefined) return new Promise(() => undefined);
  await sleep(patience, undefined, { signal, ref: false }).catch(() => undefined);
  return PATIENCE_OVER;
}

export function stillLocked(by: { run: string; subject: string } | undefined): DocumentEnding {
  return {
    outcome: 'failed',
    code: 'locked',
    message: `The run ${by?.run ?? ''} still has ${by?.subject ?? 'what this one needs'}. Nothing was changed.`,
    remedy: 'Run it again later, or give it a longer lock_wait. "chatops runs" tells what goes on.',
    changed: false,
  };
}
