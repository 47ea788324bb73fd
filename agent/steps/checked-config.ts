import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Failure } from '../plan/failure.ts';
import type { CheckedConfig } from '../plan/plan.ts';

/** Reads a checked config. Throws Failure `config-changed` if its content is not the one that was checked. */
export async function readCheckedConfig({ file, sha256 }: CheckedConfig): Promise<Buffer> {
  const bytes = await readFile(file).catch(() => undefined);
  if (bytes && createHash('sha256').update(bytes).digest('hex') === sha256) return bytes;
  throw new Failure(
    'config-changed',
    `The checked config ${file} ${bytes ? 'was changed' : 'is missing'}.`,
    'Run the intent again. If this repeats, find out which program writes to state_dir.',
  );
}
