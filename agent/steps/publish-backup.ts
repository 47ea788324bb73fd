import { createHash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { chmod, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { messageOf } from '../../protocol/refusal.ts';
import type {
  CheckBackupStep,
  ExpectEndingStep,
  NoteDrillStep,
  NoteSnapshotStep,
  SealStep,
  TallyStep,
} from '../plan/plan.ts';
import { readJson, writeDurably } from '../system/durable-files.ts';
import {
  type BackupManifest,
  failStep,
  formatMib,
  readManifest,
  type StepExecution,
  syncFolder,
  walkFiles,
} from './backup-files.ts';
import { renderRestoreReadme } from './restore-readme.ts';

/** What reading a backup came to. */
interface ReadBackResult {
  bytes: number;
  files: number;
  sha256: string;
}

const cancelledResult = (name: string) =>
  ({ outcome: 'cancelled', code: 'cancelled', message: `"${name}" was cancelled.` }) as const;

export async function* publishBackup(step: SealStep, signal: AbortSignal): StepExecution {
  const { folder, manifest } = step;
  const partial = join(folder, step.partial);
  const final = join(folder, step.as);
  const sums = `${final}.sha256`;
  try {
    // An earlier agent may have given it its name already.
    const there = (await stat(partial).catch(() => undefined)) ? partial : final;
    const isFolder = (await stat(there)).isDirectory();
    const read = await readBackup(there, signal, isFolder ? `${sums}.partial` : undefined);
    const rotten =
      isFolder && manifest.parent !== undefined ? await findCorruptFiles(folder, manifest.parent, there, sums) : [];
    if (rotten.length > 0 && manifest.parent !== undefined) {
      await rm(`${sums}.partial`);
      await markBroken(join(folder, manifest.parent), `${rotten.length} files are not what they were: ${rotten[0]}`);
      return failStep(
        'backup-broken',
        `${rotten.length} files that are shared with the backup ${manifest.parent} are not what they were when that was made: ${rotten.slice(0, 3).join(', ')}.`,
        'The destination’s disk loses data: look at it. That backup is marked as broken; the next one copies everything anew.',
      );
    }
    if (isFolder) await rename(`${sums}.partial`, sums);
    if (there === partial) {
      // Of the copied files their own modes are kept; an archive of them is for nobody else.
      if (!isFolder) await chmod(partial, 0o600);
      await syncFolder(partial);
      await rename(partial, final);
    }
    await writeManifest(folder, step.as, { schema_version: 1, ...manifest, ...read, verified_at: currentTime() });
    yield { text: `${read.files} files, ${formatMib(read.bytes)}, sha256 ${read.sha256}\n` };
    const { kind, name } = manifest;
    return { outcome: 'succeeded', backup: { kind, name, archive: final, ...read, verified: true } };
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    return failStep(
      'backup-unreadable',
      `${partial} can't be read back: ${messageOf(error)}`,
      'Look at the destination’s disk. The earlier backups are untouched.',
    );
  }
}

/** From now on it is a backup. */
async function writeManifest(folder: string, as: string, manifest: BackupManifest): Promise<void> {
  await writeDurably(join(folder, `${as}.json`), `${JSON.stringify(manifest, null, 1)}\n`);
  await writeDurably(join(folder, 'RESTORE.md'), renderRestoreReadme(manifest));
  await syncFolder(folder);
}

async function markBroken(path: string, why: string): Promise<void> {
  const manifest = readManifest(`${path}.json`);
  if (!manifest) return;
  const broken = { at: currentTime(), why };
  await writeDurably(`${path}.json`, `${JSON.stringify({ ...manifest, broken }, null, 1)}\n`);
}

/**
 * A file that is shared with the parent (a hard link) must have the digest that the parent's list names: rsync shares by size
 * and time, and would carry what a disk has changed from backup to backup.
 */
async function findCorruptFiles(folder: string, parent: string, there: string, sums: string): Promise<string[]> {
  const was = await readSums(join(folder, `${parent}.sha256`));
  const rotten: string[] = [];
  for (const [path, sha256] of await readSums(`${sums}.partial`)) {
    const before = was.get(path);
    if (before === undefined || before === sha256) continue;
    const [one, other] = await Promise.all(
      [join(there, path), join(folder, parent, path)].map(at => stat(at).catch(() => undefined)),
    );
    if (one && other && one.ino === other.ino) rotten.push(path);
  }
  return rotten;
}

/** Digests by path; empty where there is no list. */
async function readSums(file: string): Promise<Map<string, string>> {
  const sums = new Map<string, string>();
  const handle = await open(file).catch(() => undefined);
  if (!handle) return sums;
  for await (const line of createInterface(handle.createReadStream())) {
    const [, sha256 = '', path = ''] = /^\\?([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    sums.set(path, sha256);
  }
  return sums;
}

/**
 * Reads every byte. Of a folder the digest is that of the list which sha256sum prints for its regular files in the order of
 * their paths, so that a person can make it too; the list goes to `sums` where that is named.
 */
async function readBackup(path: string, signal: AbortSignal, sums?: string): Promise<ReadBackResult> {
  if ((await stat(path)).isFile()) return { files: 1, ...(await digestFile(path, signal)) };
  const paths: string[] = [];
  let files = 0;
  for await (const entry of walkFiles(path)) {
    files++;
    if (entry.regular) paths.push(entry.path);
  }
  const list = createHash('sha256');
  const written = sums === undefined ? undefined : createWriteStream(sums, { mode: 0o600 });
  let bytes = 0;
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (let at = 0; at < paths.length; at += READ_BUFFERS.length) {
    const some = paths.slice(at, at + READ_BUFFERS.length);
    const reads = await Promise.all(some.map((one, lane) => digestFile(join(path, one), signal, READ_BUFFERS[lane])));
    for (const [index, one] of some.entries()) {
      const read = reads[index] ?? { bytes: 0, sha256: '' };
      const line = checksumLine(read.sha256, one);
      list.update(line);
      if (written && !written.write(line)) await drained(written);
      bytes += read.bytes;
    }
  }
  if (written) await finished(written.end());
  return { bytes, files, sha256: list.digest('hex') };
}

/** As sha256sum writes it: a name with a backslash or a newline is escaped, and a backslash in front says so. */
function checksumLine(sha256: string, path: string): string {
  if (!/[\\\n]/.test(path)) return `${sha256}  ${path}\n`;
  return `\\${sha256}  ${path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n`;
}

function drained(stream: WriteStream): Promise<void> {
  return new Promise<void>(done => stream.once('drain', () => done()));
}

/** So many files are read side by side: most of the time with small ones goes into opening them. */
const READ_BUFFERS = Array.from({ length: 8 }, () => Buffer.alloc(128 * 1024));

/** `buffer`: nobody else uses it meanwhile. */
async function digestFile(
  path: string,
  signal: AbortSignal,
  buffer = Buffer.alloc(128 * 1024),
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  const handle = await open(path);
  let bytes = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return { bytes, sha256: hash.digest('hex') };
      hash.update(buffer.subarray(0, bytesRead));
      bytes += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

export async function* verifyBackup(step: CheckBackupStep, signal: AbortSignal): StepExecution {
  const path = join(step.folder, step.backup);
  const manifest = readManifest(`${path}.json`);
  if (!manifest) return brokenBackupResult(path, 'its manifest can’t be read');
  let why: string;
  try {
    const read = await readBackup(step.at ?? path, signal);
    if (read.sha256 === manifest.sha256 && read.files === manifest.files) {
      yield { text: `${read.files} files, ${formatMib(read.bytes)}, as they were at ${manifest.at}\n` };
      return { outcome: 'succeeded' };
    }
    why = `${read.files} files, sha256 ${read.sha256.slice(0, 12)}, not ${manifest.files} and ${manifest.sha256.slice(0, 12)}`;
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    why = messageOf(error);
  }
  // A destination that can't be written now is no reason to say anything else.
  if (step.at === undefined) await markBroken(path, why).catch(() => undefined);
  return brokenBackupResult(step.at ?? path, why);
}

function brokenBackupResult(path: string, why: string) {
  return failStep(
    'backup-broken',
    `${path} is not what its manifest says: ${why}. Nothing was changed.`,
    'Restore another one ("at"), and look at the disk that holds it.',
  );
}

export async function* recordSnapshot({ folder, partial, as, manifest }: NoteSnapshotStep): StepExecution {
  const told = <T>(file: string) => readJson<T>(join(folder, partial, file));
  const snapshot = told<{ id: string; tree: string }[]>('snapshots.json')?.at(-1);
  const stats = told<{ total_size: number; total_file_count: number }>('stats.json');
  if (!snapshot || !stats)
    return failStep(
      'backup-not-listed',
      'restic lists no snapshot of this run.',
      'Read the output of the steps before.',
    );
  const read: ReadBackResult = { bytes: stats.total_size, files: stats.total_file_count, sha256: snapshot.tree };
  await writeManifest(folder, as, {
    schema_version: 1,
    ...manifest,
    ...read,
    snapshot: snapshot.id,
    verified_at: currentTime(),
  });
  await rm(join(folder, partial), { recursive: true, force: true });
  yield { text: `snapshot ${snapshot.id.slice(0, 12)}: ${read.files} files and folders, ${formatMib(read.bytes)}\n` };
  const { kind, name } = manifest;
  const archive = `${join(folder, 'repository')}#${snapshot.id.slice(0, 12)}`;
  return { outcome: 'succeeded', backup: { kind, name, archive, ...read, verified: true } };
}

export async function* tallyListing({ list, folder, as, archive, manifest }: TallyStep): StepExecution {
  const lines = (await readFile(list, 'utf8')).split('\n');
  const hash = createHash('sha256');
  const read = { bytes: 0, files: 0, sha256: '' };
  const entries = lines.flatMap(line => {
    // Folders count no more than elsewhere; what rsync could not read has no digest.
    const [, md5 = '', size = '0', item = '', path = ''] = /^(.{32}) (\d+) (\S{11}) (.+)$/.exec(line) ?? [];
    return path === '' || item[1] === 'd'
      ? []
      : [{ md5: md5.trim(), size: Number(size), isFile: item[1] === 'f', path }];
  });
  for (const { md5, size, isFile, path } of entries.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    read.files++;
    if (!isFile) continue;
    if (md5 === '') return failStep('backup-unreadable', `${path} has no digest.`, 'Look at the other host’s disk.');
    read.bytes += size;
    hash.update(`${md5}  ${path}\n`);
  }
  read.sha256 = hash.digest('hex');
  await rm(list, { force: true });
  if (read.files === 0) return failStep('backup-unreadable', 'Nothing was listed.', 'Look at the other host.');
  yield { text: `${read.files} files, ${formatMib(read.bytes)}, sha256 of the list ${read.sha256}\n` };
  if (manifest) {
    await writeManifest(folder, as, { schema_version: 1, ...manifest, ...read, verified_at: currentTime() });
    const { kind, name } = manifest;
    return { outcome: 'succeeded', backup: { kind, name, archive, ...read, verified: true } };
  }
  const was = readManifest(join(folder, `${as}.json`));
  if (was?.sha256 === read.sha256 && was.files === read.files) return { outcome: 'succeeded' };
  return brokenBackupResult(
    archive,
    was ? `the digest of its list was ${was.sha256.slice(0, 12)}` : 'it has no manifest',
  );
}

export async function* recordDrill({ folder, backup, since }: NoteDrillStep): StepExecution {
  const file = join(folder, `${backup}.json`);
  const manifest = readManifest(file);
  if (!manifest) return brokenBackupResult(join(folder, backup), 'its manifest can’t be read');
  const seconds = Math.max(0, Date.now() - Date.parse(since)) / 1000;
  const drill = { at: currentTime(), seconds };
  // A destination that is mounted read-only has been proved as well.
  await writeDurably(file, `${JSON.stringify({ ...manifest, drill }, null, 1)}\n`).catch(() => undefined);
  yield { text: `restored in ${seconds.toFixed(1)} s\n` };
  const { kind, name } = manifest;
  return { outcome: 'succeeded', drill: { kind, name, backup, ...drill } };
}

const TAIL_BYTES = 4096;

export async function* expectEnding({ path, text, failure, name }: ExpectEndingStep): StepExecution {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.alloc(TAIL_BYTES),
      position: Math.max(0, size - TAIL_BYTES),
    });
    if (buffer.subarray(0, bytesRead).includes(text)) {
      yield { text: `${formatMib(size)}, whole\n` };
      return { outcome: 'succeeded' };
    }
    return failStep(failure.code, `"${name}": ${path} does not end in "${text}".`, failure.remedy);
  } finally {
    await handle.close();
  }
}

function currentTime(): string {
  return new Date().toISOString();
}
