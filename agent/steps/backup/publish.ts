import { chmod, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../../protocol/refusal.ts';
import type { SealStep } from '../../plan/plan.ts';
import { cancelledResult, type StepExecution } from '../runner.ts';
import { readBackup, readChecksums } from './digest.ts';
import { backupFacts, failStep, formatMib, markBroken, syncFolder, writeManifest } from './files.ts';

export async function* publishBackup(step: SealStep, signal: AbortSignal): StepExecution {
  const { folder, manifest } = step;
  const partial = join(folder, step.partial);
  const final = join(folder, step.as);
  const checksums = `${final}.sha256`;
  try {
    // An earlier agent may have renamed it already.
    const target = (await stat(partial).catch(() => undefined)) ? partial : final;
    const isFolder = (await stat(target)).isDirectory();
    const content = await readBackup(target, signal, isFolder ? `${checksums}.partial` : undefined);
    const corrupt =
      isFolder && manifest.parent !== undefined
        ? await findCorruptFiles(folder, manifest.parent, target, checksums)
        : [];
    if (corrupt.length > 0 && manifest.parent !== undefined) {
      await rm(`${checksums}.partial`);
      await markBroken(join(folder, manifest.parent), `${corrupt.length} files have changed: ${corrupt[0]}`);
      return failStep(
        'backup-broken',
        `${corrupt.length} files shared with the backup ${manifest.parent} have changed since: ${corrupt.slice(0, 3).join(', ')}.`,
        'Check the destination’s disk: it loses data. That backup is marked as broken; the next backup copies every file again.',
      );
    }
    if (isFolder) await rename(`${checksums}.partial`, checksums);
    if (target === partial) {
      // Copied files keep their own modes; an archive of them is readable by its owner only.
      if (!isFolder) await chmod(partial, 0o600);
      await syncFolder(partial);
      await rename(partial, final);
    }
    await writeManifest(folder, step.as, { ...manifest, ...content });
    yield { text: `${content.files} files, ${formatMib(content.bytes)}, sha256 ${content.sha256}\n` };
    return { outcome: 'succeeded', backup: backupFacts(manifest, final, content) };
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    return failStep(
      'backup-unreadable',
      `The backup ${partial} could not be read back: ${messageOf(error)}`,
      'Check the destination’s disk. No earlier backup was changed.',
    );
  }
}

/**
 * Returns the files that are shared with the parent (hard links) but no longer have the digest of the parent's list. rsync
 * shares a file by its size and time, so without this a file that the disk has changed would pass from backup to backup.
 */
async function findCorruptFiles(folder: string, parent: string, target: string, checksums: string): Promise<string[]> {
  const expected = await readChecksums(join(folder, `${parent}.sha256`));
  const corrupt: string[] = [];
  for (const [path, sha256] of await readChecksums(`${checksums}.partial`)) {
    const before = expected.get(path);
    if (before === undefined || before === sha256) continue;
    const [file, parentFile] = await Promise.all(
      [join(target, path), join(folder, parent, path)].map(at => stat(at).catch(() => undefined)),
    );
    if (file && parentFile && file.ino === parentFile.ino) corrupt.push(path);
  }
  return corrupt;
}
