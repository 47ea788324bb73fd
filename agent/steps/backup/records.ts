import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import type { BackupContent } from '../../plan/backup-manifest.ts';
import type { NoteDrillStep, NoteSnapshotStep, TallyStep } from '../../plan/plan.ts';
import { openFile, removeTree } from '../../system/safe-paths.ts';
import type { StepExecution } from '../runner.ts';
import {
  backupFacts,
  brokenBackupResult,
  currentTime,
  failStep,
  formatMib,
  openGroup,
  readManifest,
  replaceManifest,
  writeManifest,
} from './files.ts';

export async function* recordSnapshot(step: NoteSnapshotStep): StepExecution {
  const { partial, as, manifest } = step;
  await using folder = await openGroup(step);
  const read = async <T>(file: string): Promise<T | undefined> => {
    const text = await readListing(join(step.folder, partial, file), step.root);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  };
  const snapshot = (await read<{ id: string; tree: string }[]>('snapshots.json'))?.at(-1);
  const stats = await read<{ total_size: number; total_file_count: number }>('stats.json');
  if (!snapshot || !stats)
    return failStep(
      'backup-not-listed',
      'restic lists no snapshot of this run.',
      'Read the output of the steps before.',
    );
  const content: BackupContent = { bytes: stats.total_size, files: stats.total_file_count, sha256: snapshot.tree };
  await writeManifest(folder, as, { ...manifest, ...content, snapshot: snapshot.id });
  await removeTree(folder, partial);
  const shortId = snapshot.id.slice(0, 12);
  yield { text: `snapshot ${shortId}: ${content.files} files and folders, ${formatMib(content.bytes)}\n` };
  const archive = `${join(step.folder, 'repository')}#${shortId}`;
  return { outcome: 'succeeded', backup: backupFacts(manifest, archive, content) };
}

export async function* tallyListing(step: TallyStep): StepExecution {
  const { list, as, archive, manifest } = step;
  await using folder = await openGroup(step);
  const lines = ((await readListing(list, step.root)) ?? '').split('\n');
  const hash = createHash('sha256');
  const content: BackupContent = { bytes: 0, files: 0, sha256: '' };
  const entries = lines.flatMap(line => {
    // Folders do not count, as in a local backup. A file that rsync could not read has no digest.
    const [, md5 = '', size = '0', item = '', path = ''] = /^(.{32}) (\d+) (\S{11}) (.+)$/.exec(line) ?? [];
    return path === '' || item[1] === 'd'
      ? []
      : [{ md5: md5.trim(), size: Number(size), isFile: item[1] === 'f', path }];
  });
  for (const { md5, size, isFile, path } of entries.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    content.files++;
    if (!isFile) continue;
    if (md5 === '') return failStep('backup-unreadable', `${path} has no digest.`, 'Check the other host’s disk.');
    content.bytes += size;
    hash.update(`${md5}  ${path}\n`);
  }
  content.sha256 = hash.digest('hex');
  await removeTree(folder, basename(list));
  if (content.files === 0)
    return failStep('backup-unreadable', 'rsync listed no file of the backup.', 'Check the other host’s disk.');
  yield { text: `${content.files} files, ${formatMib(content.bytes)}, sha256 of the list ${content.sha256}\n` };
  if (manifest) {
    await writeManifest(folder, as, { ...manifest, ...content });
    return { outcome: 'succeeded', backup: backupFacts(manifest, archive, content) };
  }
  const earlier = await readManifest(folder, `${as}.json`);
  if (earlier?.sha256 === content.sha256 && earlier.files === content.files) return { outcome: 'succeeded' };
  return brokenBackupResult(
    archive,
    earlier ? `the digest of its list was ${earlier.sha256.slice(0, 12)}` : 'it has no manifest',
  );
}

export async function* recordDrill(step: NoteDrillStep): StepExecution {
  const { backup, since } = step;
  await using folder = await openGroup(step);
  const manifest = await readManifest(folder, `${backup}.json`);
  if (!manifest) return brokenBackupResult(join(step.folder, backup), 'the manifest could not be read');
  const seconds = Math.max(0, Date.now() - Date.parse(since)) / 1000;
  const drill = { at: currentTime(), seconds };
  // The drill counts if the destination is mounted read-only, too.
  await replaceManifest(folder, `${backup}.json`, { ...manifest, drill }).catch(() => undefined);
  yield { text: `restored in ${seconds.toFixed(1)} s\n` };
  const { kind, name } = manifest;
  return { outcome: 'succeeded', drill: { kind, name, backup, ...drill } };
}

/** Reads what a program printed; undefined if it is missing. Its size was limited when it was written. */
async function readListing(path: string, root: string): Promise<string | undefined> {
  const handle = await openFile(path, root);
  if (!handle) return undefined;
  try {
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}
