import { readFileSync } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type BackupContent,
  type BackupDescription,
  type BackupManifest,
  parseManifest,
} from '../../plan/backup-manifest.ts';
import type { BackupFacts, StepResult } from '../../plan/progress.ts';
import { writeDurably } from '../../system/durable-files.ts';
import { renderRestoreReadme } from './restore-readme.ts';

export function failStep(code: string, message: string, remedy: string): StepResult {
  return { outcome: 'failed', code, message, remedy };
}

export function brokenBackupResult(path: string, why: string) {
  return failStep(
    'backup-broken',
    `The backup ${path} does not match its manifest: ${why}. Nothing was changed.`,
    'Restore another backup ("at"), and check the disk that holds this one.',
  );
}

/** Returns undefined if the manifest is missing or invalid: retention never removes such a backup. */
export function readManifest(file: string): BackupManifest | undefined {
  try {
    return parseManifest(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Makes `<folder>/<name>` a backup: without a manifest it does not count as one. */
export async function writeManifest(
  folder: string,
  name: string,
  description: BackupDescription & BackupContent,
): Promise<void> {
  const manifest: BackupManifest = { schema_version: 1, ...description, verified_at: currentTime() };
  await replaceManifest(join(folder, `${name}.json`), manifest);
  await writeDurably(join(folder, 'RESTORE.md'), renderRestoreReadme(manifest));
  await syncFolder(folder);
}

export async function replaceManifest(file: string, manifest: BackupManifest): Promise<void> {
  await writeDurably(file, `${JSON.stringify(manifest, null, 1)}\n`);
}

export async function markBroken(path: string, why: string): Promise<void> {
  const manifest = readManifest(`${path}.json`);
  if (manifest) await replaceManifest(`${path}.json`, { ...manifest, broken: { at: currentTime(), why } });
}

/** Returns the facts of a backup that was read back, for the receipt. */
export function backupFacts(
  { kind, name }: BackupDescription,
  archive: string,
  { bytes, files, sha256 }: BackupContent,
): BackupFacts {
  return { kind, name, archive, bytes, files, sha256, verified: true };
}

/** Yields the files, links and other entries below a folder, without the folders. */
export async function* walkFiles(
  folder: string,
  below = '',
): AsyncGenerator<{ path: string; size: number; regular: boolean }> {
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) yield* walkFiles(folder, path);
    else {
      // A source that is in use may remove the file after it was listed.
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

export function currentTime(): string {
  return new Date().toISOString();
}
