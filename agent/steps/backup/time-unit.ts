import { randomBytes } from 'node:crypto';
import { lstat, rm } from 'node:fs/promises';
import { type OpenFolder, openForWriting } from '../../system/safe-paths.ts';

const MICROSECOND = 1_000n;
const MILLISECOND = 1_000_000n;
const SECOND = 1_000_000_000n;

/** Returns the nanoseconds to which the folder's file system keeps the times of files: 1 for most, two seconds for FAT. */
export async function findTimeUnit(folder: OpenFolder): Promise<bigint> {
  const name = `.probe.${randomBytes(6).toString('hex')}`;
  const file = await openForWriting(folder.at(name));
  try {
    // The kernel sets this time, to the unit that the file system keeps: a call with a number could not say nanoseconds.
    let unit = 2n * SECOND;
    for (let tries = 0; tries < TRIES; tries++) {
      await file.write('x');
      const { mtimeNs } = await lstat(folder.at(name), { bigint: true });
      unit = [2n * SECOND, SECOND, MILLISECOND, MICROSECOND, 100n, 1n].find(one => mtimeNs % one === 0n) ?? 1n;
      if (unit === 1n) break;
    }
    return unit;
  } finally {
    await file.close();
    await rm(folder.at(name), { force: true });
  }
}

/** A time may be a multiple of a coarser unit by chance. */
const TRIES = 3;
