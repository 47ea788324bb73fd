import { setTimeout as sleep } from 'node:timers/promises';

/** How long to wait before a full or broken disk is tried again, in milliseconds. */
const STORE_PAUSE = 1_000;
/** SQLite's codes for what may pass: busy, I/O error, full, can't open. */
const PASSING_SQLITE = new Set([5, 10, 13, 14]);

/**
 * Does it, and where the disk is full or broken does it again until it is not: nothing that was told of a run gets lost.
 * `wait` waits for a pause, and may throw to give up.
 */
export async function retryUntilStored<T>(
  run: string,
  work: () => T,
  wait: (pause: Promise<void>) => Promise<void>,
): Promise<T> {
  for (let complained = false; ; complained = true) {
    try {
      return work();
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (!complained) console.error(`run ${run} is held up: the state can't be written:`, error);
      await wait(sleep(STORE_PAUSE));
    }
  }
}

function isTransient(error: unknown): boolean {
  const { code, errcode } = error as { code?: string; errcode?: number };
  if (code === 'ERR_SQLITE_ERROR') return PASSING_SQLITE.has((errcode ?? 0) & 0xff);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO';
}
