import { lstat, readdir } from 'node:fs/promises';
import {
  type BackupContent,
  type BackupDescription,
  type BackupManifest,
  parseManifest,
} from '../../plan/backup-manifest.ts';
import { Failure } from '../../plan/failure.ts';
import type { BackupFacts, StepResult } from '../../plan/progress.ts';
import { writeDurably } from '../../system/durable-files.ts';
import { descriptorPath, type OpenFolder, openFolder, openFolderIn, readRegular } from '../../system/safe-paths.ts';
import { renderRestoreReadme } from './restore-readme.ts';

const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

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

/** Opens the folder of a group of backups. Throws {@link Failure}: `destination-link`, `destination-missing`. */
export async function openGroup(
  { folder, root }: { folder: string; root: string },
  options: { make?: number } = {},
): Promise<OpenFolder> {
  const opened = await openFolder(folder, root, options).catch((error: unknown) => {
    throw error instanceof Failure ? destinationLink(error) : error;
  });
  if (opened) return opened;
  throw new Failure('destination-missing', `${folder} is not a folder of this host.`, 'Mount the share.');
}

/** Reports a link in a destination: whoever serves the share could lead the agent anywhere on the host. */
function destinationLink({ message, remedy }: Failure): Failure {
  return new Failure('destination-link', `${message} Nothing was written there.`, remedy);
}

/** Returns undefined if the manifest is missing or invalid: retention never removes such a backup. */
export async function readManifest(folder: OpenFolder, file: string): Promise<BackupManifest | undefined> {
  try {
    return parseManifest(String(await readRegular(folder.at(file), MAX_MANIFEST_BYTES)));
  } catch {
    return undefined;
  }
}

/** Makes `name` in the folder a backup: without a manifest it does not count as one. */
export async function writeManifest(
  folder: OpenFolder,
  name: string,
  description: BackupDescription & BackupContent,
): Promise<void> {
  const manifest: BackupManifest = { schema_version: 1, ...description, verified_at: currentTime() };
  await replaceManifest(folder, `${name}.json`, manifest);
  await writeDurably(folder.at('RESTORE.md'), renderRestoreReadme(manifest));
  await folder.sync();
}

export async function replaceManifest(folder: OpenFolder, file: string, manifest: BackupManifest): Promise<void> {
  await writeDurably(folder.at(file), `${JSON.stringify(manifest, null, 1)}\n`);
}

export async function markBroken(folder: OpenFolder, backup: string, why: string): Promise<void> {
  const manifest = await readManifest(folder, `${backup}.json`);
  if (manifest) await replaceManifest(folder, `${backup}.json`, { ...manifest, broken: { at: currentTime(), why } });
}

/** Returns the facts of a backup that was read back, for the receipt. */
export function backupFacts(
  { kind, name }: BackupDescription,
  archive: string,
  { bytes, files, sha256 }: BackupContent,
): BackupFacts {
  return { kind, name, archive, bytes, files, sha256, verified: true };
}

/** Yields the files, links and other entries below a folder, without the folders. Follows no link. */
export async function* walkFiles(
  folder: OpenFolder,
  below = '',
): AsyncGenerator<{ path: string; size: number; regular: boolean }> {
  for (const entry of await readdir(descriptorPath(folder.handle), { withFileTypes: true })) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    await using inner = entry.isDirectory() ? await openFolderIn(folder, entry.name).catch(noFolder) : undefined;
    if (inner) {
      yield* walkFiles(inner, path);
      continue;
    }
    // A source that is in use may remove the file after it was listed.
    const found = await lstat(folder.at(entry.name)).catch(() => undefined);
    if (found && !found.isDirectory()) yield { path, size: found.isFile() ? found.size : 0, regular: found.isFile() };
  }
}

/** A folder that was replaced after it was listed counts as the entry that it is now. */
function noFolder(error: unknown): undefined {
  if (!(error instanceof Failure)) throw error;
}

export function formatMib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;
}

export function currentTime(): string {
  return new Date().toISOString();
}
