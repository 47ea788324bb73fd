import { readFileSync } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseManifest } from '../plan/backup-manifest.ts';
import type { BackupDescription } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';

export type { StepExecution } from './runner.ts';

/** Beside each backup, `<name>.json`. */
export interface BackupManifest extends BackupDescription {
  schema_version: 1;
  bytes: number;
  files: number;
  /** Of a file: its own; of a folder: of the list of its files' digests. */
  sha256: string;
  /** ISO 8601: when it had been read back. */
  verified_at: string;
  protected?: boolean;
  /** When it was last restored for a trial, and how long that took. */
  drill?: { at: string; seconds: number };
  /** It was found not to be what it was. It is kept, counts for nothing, and nothing is built on it. */
  broken?: { at: string; why: string };
}

export function failStep(code: string, message: string, remedy: string): StepResult {
  return { outcome: 'failed', code, message, remedy };
}

/** Undefined for what is none: such a backup is never taken away. */
export function readManifest(file: string): BackupManifest | undefined {
  try {
    return parseManifest(readFileSync(file, 'utf8')) as BackupManifest | undefined;
  } catch {
    return undefined;
  }
}

/** Files, links and whatever else is no folder, below a folder. */
export async function* walkFiles(
  folder: string,
  below = '',
): AsyncGenerator<{ path: string; size: number; regular: boolean }> {
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) yield* walkFiles(folder, path);
    else {
      // Gone between the list and the look: a source that lives.
      const found = await lstat(join(folder, path)).catch(() => undefined);
      if (found) yield { path, size: found.isFile() ? found.size : 0, regular: found.isFile() };
    }
  }
}

export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function formatMib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;
}
