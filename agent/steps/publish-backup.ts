import { createHash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { chmod, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { CheckBackup, ExpectEnding, NoteDrill, NoteSnapshot, Seal, Tally } from '../plan/plan.ts';
import { readJson, writeDurably } from '../system/durable-files.ts';
import { type Doing, failed, type Manifest, mib, readManifest, said, syncFolder, walk } from './backup-files.ts';
import { recoveryCard } from './restore-readme.ts';

/** What reading a backup came to. */
interface Read {
  bytes: number;
  files: number;
  sha256: string;
}

const CANCELLED = (name: string) =>
  ({ outcome: 'cancelled', code: 'cancelled', message: `"${name}" was cancelled.` }) as const;

export async function* seal(step: Seal, signal: AbortSignal): Doing {
  const { folder, manifest } = step;
  const partial = join(folder, step.partial);
  const final = join(folder, step.as);
  const sums = `${final}.sha256`;
  try {
    // An earlier agent may have given it its name already.
    const there = (await stat(partial).catch(() => undefined)) ? partial : final;
    const isFolder = (await stat(there)).isDirectory();
    const read = await readBack(there, signal, isFolder ? `${sums}.partial` : undefined);
    const rotten = isFolder && manifest.parent !== undefined ? await findRot(folder, manifest.parent, there, sums) : [];
    if (rotten.length > 0 && manifest.parent !== undefined) {
      await rm(`${sums}.partial`);
      await markBroken(join(folder, manifest.parent), `${rotten.length} files are not what they were: ${rotten[0]}`);
      return failed(
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
    await noteBackup(folder, step.as, { schema_version: 1, ...manifest, ...read, verified_at: now() });
    yield { text: `${read.files} files, ${mib(read.bytes)}, sha256 ${read.sha256}\n` };
    const { kind, name } = manifest;
    return { outcome: 'succeeded', backup: { kind, name, archive: final, ...read, verified: true } };
  } catch (error) {
    if (signal.aborted) return CANCELLED(step.name);
    return failed(
      'backup-unreadable',
      `${partial} can't be read back: ${said(error)}`,
      'Look at the destination’s disk. The earlier backups are untouched.',
    );
  }
}

/** From now on it is a backup. */
async function noteBackup(folder: string, as: string, manifest: Manifest): Promise<void> {
  await writeDurably(join(folder, `${as}.json`), `${JSON.stringify(manifest, null, 1)}\n`);
  await writeDurably(join(folder, 'RESTORE.md'), recoveryCard(manifest));
  await syncFolder(folder);
}

async function markBroken(path: string, why: string): Promise<void> {
  const manifest = readManifest(`${path}.json`);
  if (!manifest) return;
  const broken = { at: now(), why };
  await writeDurably(`${path}.json`, `${JSON.stringify({ ...manifest, broken }, null, 1)}\n`);
}

/**
 * A file that is shared with the parent (a hard link) must have the digest that the parent's list names: rsync shares by size
 * and time, and would carry what a disk has changed from backup to backup.
 */
async function findRot(folder: string, parent: string, there: string, sums: string): Promise<string[]> {
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
async function readBack(path: string, signal: AbortSignal, sums?: string): Promise<Read> {
  if ((await stat(path)).isFile()) return { files: 1, ...(await digestOf(path, signal)) };
  const paths: string[] = [];
  let files = 0;
  for await (const entry of walk(path)) {
    files++;
    if (entry.regular) paths.push(entry.path);
  }
  const list = createHash('sha256');
  const written = sums === undefined ? undefined : createWriteStream(sums, { mode: 0o600 });
  let bytes = 0;
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (let at = 0; at < paths.length; at += LANES.length) {
    const some = paths.slice(at, at + LANES.length);
    const reads = await Promise.all(some.map((one, lane) => digestOf(join(path, one), signal, LANES[lane])));
    for (const [index, one] of some.entries()) {
      const read = reads[index] ?? { bytes: 0, sha256: '' };
      const line = lineOf(read.sha256, one);
      list.update(line);
      if (written && !written.write(line)) await drained(written);
      bytes += read.bytes;
    }
  }
  if (written) await finished(written.end());
  return { bytes, files, sha256: list.digest('hex') };
}

/** As sha256sum writes it: a name with a backslash or a newline is escaped, and a backslash in front says so. */
function lineOf(sha256: string, path: string): string {
  if (!/[\\\n]/.test(path)) return `${sha256}  ${path}\n`;
  return `\\${sha256}  ${path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n`;
}

function drained(stream: WriteStream): Promise<void> {
  return new Promise<void>(done => stream.once('drain', () => done()));
}

/** So many files are read side by side: most of the time with small ones goes into opening them. */
const LANES = Array.from({ length: 8 }, () => Buffer.alloc(128 * 1024));

/** `buffer`: nobody else uses it meanwhile. */
async function digestOf(
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

export async function* checkBackup(step: CheckBackup, signal: AbortSignal): Doing {
  const path = join(step.folder, step.backup);
  const manifest = readManifest(`${path}.json`);
  if (!manifest) return broken(path, 'its manifest can’t be read');
  let why: string;
  try {
    const read = await readBack(step.at ?? path, signal);
    if (read.sha256 === manifest.sha256 && read.files === manifest.files) {
      yield { text: `${read.files} files, ${mib(read.bytes)}, as they were at ${manifest.at}\n` };
      return { outcome: 'succeeded' };
    }
    why = `${read.files} files, sha256 ${read.sha256.slice(0, 12)}, not ${manifest.files} and ${manifest.sha256.slice(0, 12)}`;
  } catch (error) {
    if (signal.aborted) return CANCELLED(step.name);
    why = said(error);
  }
  // A destination that can't be written now is no reason to say anything else.
  if (step.at === undefined) await markBroken(path, why).catch(() => undefined);
  return broken(step.at ?? path, why);
}

function broken(path: string, why: string) {
  return failed(
    'backup-broken',
    `${path} is not what its manifest says: ${why}. Nothing was changed.`,
    'Restore another one ("at"), and look at the disk that holds it.',
  );
}

export async function* noteSnapshot({ folder, partial, as, manifest }: NoteSnapshot): Doing {
  const told = <T>(file: string) => readJson<T>(join(folder, partial, file));
  const snapshot = told<{ id: string; tree: string }[]>('snapshots.json')?.at(-1);
  const stats = told<{ total_size: number; total_file_count: number }>('stats.json');
  if (!snapshot || !stats)
    return failed('backup-not-listed', 'restic lists no snapshot of this run.', 'Read the output of the steps before.');
  const read: Read = { bytes: stats.total_size, files: stats.total_file_count, sha256: snapshot.tree };
  await noteBackup(folder, as, { schema_version: 1, ...manifest, ...read, snapshot: snapshot.id, verified_at: now() });
  await rm(join(folder, partial), { recursive: true, force: true });
  yield { text: `snapshot ${snapshot.id.slice(0, 12)}: ${read.files} files and folders, ${mib(read.bytes)}\n` };
  const { kind, name } = manifest;
  const archive = `${join(folder, 'repository')}#${snapshot.id.slice(0, 12)}`;
  return { outcome: 'succeeded', backup: { kind, name, archive, ...read, verified: true } };
}

export async function* tally({ list, folder, as, archive, manifest }: Tally): Doing {
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
    if (md5 === '') return failed('backup-unreadable', `${path} has no digest.`, 'Look at the other host’s disk.');
    read.bytes += size;
    hash.update(`${md5}  ${path}\n`);
  }
  read.sha256 = hash.digest('hex');
  await rm(list, { force: true });
  if (read.files === 0) return failed('backup-unreadable', 'Nothing was listed.', 'Look at the other host.');
  yield { text: `${read.files} files, ${mib(read.bytes)}, sha256 of the list ${read.sha256}\n` };
  if (manifest) {
    await noteBackup(folder, as, { schema_version: 1, ...manifest, ...read, verified_at: now() });
    const { kind, name } = manifest;
    return { outcome: 'succeeded', backup: { kind, name, archive, ...read, verified: true } };
  }
  const was = readManifest(join(folder, `${as}.json`));
  if (was?.sha256 === read.sha256 && was.files === read.files) return { outcome: 'succeeded' };
  return broken(archive, was ? `the digest of its list was ${was.sha256.slice(0, 12)}` : 'it has no manifest');
}

export async function* noteDrill({ folder, backup, since }: NoteDrill): Doing {
  const file = join(folder, `${backup}.json`);
  const manifest = readManifest(file);
  if (!manifest) return broken(join(folder, backup), 'its manifest can’t be read');
  const seconds = Math.max(0, Date.now() - Date.parse(since)) / 1000;
  const drill = { at: now(), seconds };
  // A destination that is mounted read-only has been proved as well.
  await writeDurably(file, `${JSON.stringify({ ...manifest, drill }, null, 1)}\n`).catch(() => undefined);
  yield { text: `restored in ${seconds.toFixed(1)} s\n` };
  const { kind, name } = manifest;
  return { outcome: 'succeeded', drill: { kind, name, backup, ...drill } };
}

const LOOKED_AT = 4096;

export async function* expectEnding({ path, text, failure, name }: ExpectEnding): Doing {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.alloc(LOOKED_AT),
      position: Math.max(0, size - LOOKED_AT),
    });
    if (buffer.subarray(0, bytesRead).includes(text)) {
      yield { text: `${mib(size)}, whole\n` };
      return { outcome: 'succeeded' };
    }
    return failed(failure.code, `"${name}": ${path} does not end in "${text}".`, failure.remedy);
  } finally {
    await handle.close();
  }
}

function now(): string {
  return new Date().toISOString();
}
