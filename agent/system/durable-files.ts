import { readFileSync } from 'node:fs';
import { constants, open, rename, rm } from 'node:fs/promises';

/** A file that exists could be a link or a pipe. */
const WRITE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/** Returns the parsed file, or undefined if it does not exist. A file of {@link writeDurably} is never half written. */
export function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes the file so that it exists whole or not at all, also after a crash. Until then it has the name `partial`. */
export async function writeDurably(
  file: string,
  content: string | Uint8Array,
  { mode = 0o600, partial = `${file}.partial` }: { mode?: number; partial?: string } = {},
): Promise<void> {
  try {
    // An earlier agent may have left it.
    await rm(partial, { force: true });
    const handle = await open(partial, WRITE_FLAGS, mode);
    try {
      await handle.writeFile(content);
      // The umask took bits from the mode that open() was given.
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => undefined);
    throw error;
  }
}
