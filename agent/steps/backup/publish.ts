import { lstat, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../../protocol/refusal.ts';
import { Failure } from '../../plan/failure.ts';
import type { SealStep } from '../../plan/plan.ts';
import { descriptorPath, type OpenFolder, openFolderIn, openRegular, removeTree } from '../../system/safe-paths.ts';
import { cancelledResult, type StepExecution } from '../runner.ts';
import { readBackup, readChecksums } from './digest.ts';
import { backupFacts, failStep, formatMib, markBroken, openGroup, writeManifest } from './files.ts';

export async function* publishBackup(step: SealStep, signal: AbortSignal): StepExecution {
  await using folder = await openGroup(step);
  const { manifest, as, partial } = step;
  const checksums = `${as}.sha256`;
  try {
    // An earlier agent may have renamed it already.
    const target = (await lstat(folder.at(partial)).catch(() => undefined)) ? partial : as;
    const isFolder = (await lstat(folder.at(target))).isDirectory();
    const content = await readBackup(folder, target, signal, isFolder ? `${checksums}.partial` : undefined);
    const corrupt =
      isFolder && manifest.parent !== undefined
        ? await findCorruptFiles(folder, manifest.parent, target, `${checksums}.partial`)
        : [];
    if (corrupt.length > 0 && manifest.parent !== undefined) {
      await removeTree(folder, `${checksums}.partial`);
      await markBroken(folder, manifest.parent, `${corrupt.length} files have changed: ${corrupt[0]}`);
      return failStep(
        'backup-broken',
        `${corrupt.length} files shared with the backup ${manifest.parent} have changed since: ${corrupt.slice(0, 3).join(', ')}.`,
        'Check the destination’s disk: it loses data. That backup is marked as broken; the next backup copies every file again.',
      );
    }
    if (isFolder) await rename(folder.at(`${checksums}.partial`), folder.at(checksums));
    if (target === partial) {
      await syncEntry(folder, partial, isFolder);
      await rename(folder.at(partial), folder.at(as));
    }
    await writeManifest(folder, as, { ...manifest, ...content });
    yield { text: `${content.files} files, ${formatMib(content.bytes)}, sha256 ${content.sha256}\n` };
    return { outcome: 'succeeded', backup: backupFacts(manifest, join(step.folder, as), content) };
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    if (error instanceof Failure && error.code === 'path-outside') throw error;
    return failStep(
      'backup-unreadable',
      `The backup ${join(step.folder, partial)} could not be read back: ${messageOf(error)}`,
      'Check the destination’s disk. No earlier backup was changed.',
    );
  }
}

async function syncEntry(folder: OpenFolder, name: string, isFolder: boolean): Promise<void> {
  if (isFolder) {
    await using opened = await openFolderIn(folder, name);
    return opened?.sync();
  }
  const file = await openRegular(folder.at(name));
  try {
    // Copied files keep their own modes; an archive of them is readable by its owner only.
    await file.chmod(0o600);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Returns the files that are shared with the parent (hard links) but no longer have the digest of the parent's list. rsync
 * shares a file by its size and time, so without this a file that the disk has changed would pass from backup to backup.
 */
async function findCorruptFiles(
  folder: OpenFolder,
  parent: string,
  target: string,
  checksums: string,
): Promise<string[]> {
  const expected = await readChecksums(folder, `${parent}.sha256`);
  const at = descriptorPath(folder.handle);
  const corrupt: string[] = [];
  for (const [path, sha256] of await readChecksums(folder, checksums)) {
    const before = expected.get(path);
    if (before === undefined || before === sha256) continue;
    const [file, parentFile] = await Promise.all(
      [target, parent].map(one => lstat(join(at, one, path)).catch(() => undefined)),
    );
    if (file && parentFile && file.ino === parentFile.ino) corrupt.push(path);
  }
  return corrupt;
}
