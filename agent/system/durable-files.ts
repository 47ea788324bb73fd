import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';

/** Parsed, or undefined where the file is not there. Files come into being whole. */
export function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** A file of mode 0600 that is there whole or not at all. */
export async function writeDurably(file: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(`${file}.partial`, 'w', 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.partial`, file);
}
