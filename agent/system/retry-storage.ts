import { setTimeout as sleep } from 'node:timers/promises';

/** The pause between tries on a full or broken disk. */
const PAUSE_MS = 1_000;
/** SQLite's codes of temporary errors: busy, I/O error, full, cannot open. */
const TRANSIENT_SQLITE = new Set([5, 10, 13, 14]);

/**
 * Does the work, again and again while the disk is full or broken, so that no event of a run is lost. `wait` waits for the
 * pause, and throws to give up.
 */
export async function retryUntilStored<T>(
  run: string,
  work: () => T,
  wait: (pause: Promise<void>) => Promise<void>,
): Promise<T> {
  for (let isLogged = false; ; isLogged = true) {
    try {
      return work();
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (!isLogged) console.error(`run ${run} waits, its state is not writable:`, error);
      await wait(sleep(PAUSE_MS));
    }
  }
}

function isTransient(error: unknown): boolean {
  const { code, errcode } = error as { code?: string; errcode?: number };
  if (code === 'ERR_SQLITE_ERROR') return TRANSIENT_SQLITE.has((errcode ?? 0) & 0xff);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO';
}
