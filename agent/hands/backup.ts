import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, open, readdir, readFile, realpath, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import type { Piece, StepEnding } from '../carry-out.ts';
import { judgeBackups, type Kept } from '../keep.ts';
import { readJson, writeDurably } from '../keeper.ts';
import type { CheckBackup, CheckSource, CheckTarget, ExpectListed, Prune, Seal, Swap, Taken } from '../plan.ts';

type Doing = AsyncGenerator<Piece, StepEnding>;

/** In a destination's folder: proof that it is the share that is meant. */
export const MARKER = '.chatops-backup-target';
/** What an interrupted backup left is taken away after so long. */
const ABANDONED_MS = 48 * 3_600_000;

/** Beside each backup, `<name>.json`. */
export interface Manifest extends Taken {
  schema_version: 1;
  bytes: number;
  files: number;
  /** Of a file: its own; of a folder: of the list of its files' digests. */
  sha256: string;
  /** ISO 8601: when it had been read back. */
  verified_at: string;
  protected?: boolean;
}

function failed(code: string, message: string, remedy: string): StepEnding {
  return { outcome: 'failed', code, message, remedy };
}

export async function* checkTarget(step: CheckTarget): Doing {
  const { path, mount, marker, folder, needs } = step;
  if (!(await stat(path).catch(() => undefined))?.isDirectory())
    return failed(
      'destination-missing',
      `${path} is not a folder of this host.`,
      'Mount the share, or correct backups.destinations in agent.yaml.',
    );
  if (mount) {
    const is = await mountAt(path);
    if (!is)
      return failed('destination-not-mounted', `Nothing is mounted at ${path}.`, `Mount the share: "mount ${path}".`);
    if (
      (mount.source !== undefined && mount.source !== is.source) ||
      (mount.fstype !== undefined && mount.fstype !== is.fstype)
    )
      return failed(
        'destination-not-mounted',
        `At ${path} is mounted ${is.source} (${is.fstype}), not ${mount.source ?? 'any source'} (${mount.fstype ?? 'any type'}).`,
        'Mount the right share, or correct backups.destinations in agent.yaml.',
      );
    yield { text: `mounted: ${is.source} (${is.fstype})\n` };
  }
  if (marker !== undefined) {
    const found = await readFile(join(path, MARKER), 'utf8').catch(() => undefined);
    if (found?.trim() !== marker)
      return failed(
        'destination-unmarked',
        `${join(path, MARKER)} ${found === undefined ? 'is not there' : 'holds another text'}: this is not the share that is meant.`,
        `If it is, write the marker into it: echo ${marker} > ${join(path, MARKER)}`,
      );
  }
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const probe = join(folder, `.probe.${randomBytes(6).toString('hex')}`);
    await writeDurably(probe, 'x');
    await rm(probe);
  } catch (error) {
    return failed(
      'destination-unwritable',
      `${folder} can't be written: ${said(error)}`,
      'Let the agent’s user write there, and look for a full or read-only file system.',
    );
  }
  const room = await statfs(path);
  const free = room.bavail * room.bsize;
  yield { text: `${mib(free)} free\n` };
  if (free >= needs) return { outcome: 'succeeded' };
  return failed(
    'destination-full',
    `${path} has ${mib(free)} free; ${mib(needs)} are needed.`,
    'Make room there, keep fewer backups, or lower min_free in agent.yaml.',
  );
}

/** What is mounted right at that path; undefined where it is no mount point. */
async function mountAt(path: string): Promise<{ source: string; fstype: string } | undefined> {
  const real = await realpath(path);
  const plain = (text: string) =>
    text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map(line => line.split(' ').map(plain));
  const found = lines.findLast(([, target]) => target === real);
  return found ? { source: found[0] ?? '', fstype: found[2] ?? '' } : undefined;
}

export async function* checkSource(step: CheckSource): Doing {
  const real = await realpath(step.path).catch(() => undefined);
  if (real === undefined || !(await stat(real)).isDirectory())
    return failed('source-missing', `${step.path} is not a folder of this host.`, 'Mount it, or correct the intent.');
  const roots = await Promise.all(step.roots.map(root => realpath(root).catch(() => root)));
  if (!roots.some(root => real === root || real.startsWith(root + sep)))
    return failed(
      'path-outside',
      `${step.path} does not stay under the folders that backups may read.`,
      'Add its folder to backups.sources in agent.yaml.',
    );
  let bytes = 0;
  let files = 0;
  for await (const { size } of walk(real)) {
    bytes += size;
    files++;
  }
  yield { text: `${files} files, ${mib(bytes)}\n` };
  if (files === 0)
    return failed(
      'source-empty',
      `${step.path} holds no file.`,
      'Look whether it is mounted. What is empty on purpose needs no backup.',
    );
  const { last } = step;
  if (last && !step.acceptShrink && (files * 2 < last.files || bytes * 2 < last.bytes))
    return failed(
      'source-shrank',
      `${step.path} has ${files} files and ${mib(bytes)}; the last backup held ${last.files} and ${mib(last.bytes)}.`,
      'Look whether something is lost. If it is meant, say accept_shrink: true in the intent.',
    );
  return { outcome: 'succeeded' };
}

/** Files, links and whatever else is no folder, below a folder. */
async function* walk(folder: string, below = ''): AsyncGenerator<{ path: string; size: number; regular: boolean }> {
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) yield* walk(folder, path);
    else {
      // Gone between the list and the look: a source that lives.
      const found = await lstat(join(folder, path)).catch(() => undefined);
      if (found) yield { path, size: found.isFile() ? found.size : 0, regular: found.isFile() };
    }
  }
}

export async function* seal(step: Seal, signal: AbortSignal): Doing {
  const { folder, manifest } = step;
  const partial = join(folder, step.partial);
  const final = join(folder, step.as);
  try {
    // An earlier agent may have given it its name already.
    const there = (await stat(partial).catch(() => undefined)) ? partial : final;
    const read = await readBack(there, signal);
    const done: Manifest = { schema_version: 1, ...manifest, ...read, verified_at: new Date().toISOString() };
    if (there === partial) {
      await syncFolder(partial);
      await rename(partial, final);
    }
    await writeDurably(`${final}.json`, `${JSON.stringify(done, null, 1)}\n`);
    await writeDurably(join(folder, 'RESTORE.md'), recoveryCard(manifest));
    await syncFolder(folder);
    yield { text: `${read.files} files, ${mib(read.bytes)}, sha256 ${read.sha256}\n` };
    const { kind, name } = manifest;
    return { outcome: 'succeeded', backup: { kind, name, archive: final, ...read, verified: true } };
  } catch (error) {
    if (signal.aborted) return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.` };
    return failed(
      'backup-unreadable',
      `${partial} can't be read back: ${said(error)}`,
      'Look at the destination’s disk. The earlier backups are untouched.',
    );
  }
}

/**
 * Reads every byte. Of a folder the digest is that of the list which sha256sum prints for its regular files in the order of
 * their paths, so that a person can make it too.
 */
export async function readBack(
  path: string,
  signal: AbortSignal,
): Promise<{ bytes: number; files: number; sha256: string }> {
  if ((await stat(path)).isFile()) return { files: 1, ...(await digestOf(path, signal)) };
  const paths: string[] = [];
  let files = 0;
  for await (const entry of walk(path)) {
    files++;
    if (entry.regular) paths.push(entry.path);
  }
  const list = createHash('sha256');
  let bytes = 0;
  for (const one of paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    const read = await digestOf(join(path, one), signal);
    list.update(`${read.sha256}  ${one}\n`);
    bytes += read.bytes;
  }
  return { bytes, files, sha256: list.digest('hex') };
}

async function digestOf(path: string, signal: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, signal }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}

export async function* checkBackup(step: CheckBackup, signal: AbortSignal): Doing {
  const path = join(step.folder, step.backup);
  const manifest = readManifest(`${path}.json`);
  const broken = (why: string) =>
    failed(
      'backup-broken',
      `${path} is not what its manifest says: ${why}. Nothing was changed.`,
      'Restore another one ("at"), and look at the disk that holds it.',
    );
  if (!manifest) return broken('its manifest can’t be read');
  try {
    const read = await readBack(path, signal);
    if (read.sha256 !== manifest.sha256 || read.files !== manifest.files)
      return broken(
        `${read.files} files, sha256 ${read.sha256.slice(0, 12)}, not ${manifest.files} and ${manifest.sha256.slice(0, 12)}`,
      );
    yield { text: `${read.files} files, ${mib(read.bytes)}, as they were at ${manifest.at}\n` };
    return { outcome: 'succeeded' };
  } catch (error) {
    if (signal.aborted) return { outcome: 'cancelled', code: 'cancelled', message: `"${step.name}" was cancelled.` };
    return broken(said(error));
  }
}

/** Each half is a rename, and is done only where it has not been: an earlier agent may have come to the middle. */
export async function* swap({ path, next, aside, roots, back }: Swap): Doing {
  const isThere = async (one: string) => (await stat(one).catch(() => undefined)) !== undefined;
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  const real = await Promise.all(roots.map(root => realpath(root).catch(() => root)));
  if (!real.some(root => parent === root || parent.startsWith(root + sep)))
    return failed(
      'path-outside',
      `${path} does not stay under the folders that may be restored.`,
      'Add its folder to backups.sources in agent.yaml.',
    );
  try {
    if (back) {
      if (await isThere(aside)) {
        if (await isThere(path)) await rename(path, next);
        await rename(aside, path);
      }
      // A copy of what the backup holds still: nobody needs it.
      await rm(next, { recursive: true, force: true });
    } else {
      if ((await isThere(next)) && (await isThere(path)) && !(await isThere(aside))) await rename(path, aside);
      if (await isThere(next)) await rename(next, path);
    }
    await syncFolder(dirname(path));
  } catch (error) {
    return failed(
      'swap-failed',
      `${path} could not be exchanged: ${said(error)}`,
      'A folder that is a mount point itself can’t be renamed: restore into a folder below it.',
    );
  }
  yield { text: back ? `${path} is as it was\n` : `what was there before is ${aside}\n` };
  return { outcome: 'succeeded' };
}

/** What of a listing's entry is read, as Proxmox names it. */
interface ListedBackup {
  volid: string;
  size: number;
  ctime: number;
}

/** Judges the listing that a program has written to `file`. */
export function judgeListing(text: string, step: ExpectListed): StepEnding {
  let entries: ListedBackup[];
  try {
    entries = JSON.parse(text) as ListedBackup[];
  } catch {
    return failed(
      'backup-not-listed',
      `"${step.argv.join(' ')}" did not answer with a list.`,
      'Run it on the host to see why.',
    );
  }
  const since = Math.floor(Date.parse(step.since) / 1000);
  const found = entries.filter(({ ctime, size }) => ctime >= since && size > 0).sort((a, b) => b.ctime - a.ctime)[0];
  if (!found)
    return failed(
      'backup-not-listed',
      `The program said that it was done, but the storage lists no new backup (${entries.length} older ones).`,
      'Look at the storage, and whether the guest is on this node. Nothing was pruned.',
    );
  const backup = { ...step.backup, archive: found.volid, bytes: found.size, files: 1, sha256: '', verified: false };
  return { outcome: 'succeeded', backup, message: `${found.volid}, ${mib(found.size)}` };
}

export async function* prune(step: Prune): Doing {
  const { folder, rules, minKeep } = step;
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter(one => one.startsWith('.') && one.includes('.partial'))) {
    const age = Date.now() - (await stat(join(folder, name))).mtimeMs;
    if (age < ABANDONED_MS) continue;
    await rm(join(folder, name), { recursive: true, force: true });
    yield { text: `removed ${name}: left unfinished\n` };
  }
  for (const { name, keep, reason } of judgeBackups(backupsIn(folder, names), rules, minKeep, new Date())) {
    yield { text: `${keep ? 'keep' : 'prune'} ${name}: ${reason}\n` };
    if (keep) continue;
    // The manifest goes first: what has none is no backup, also if this is interrupted.
    await rm(join(folder, `${name}.json`), { force: true });
    await rm(join(folder, name), { recursive: true, force: true });
  }
  return { outcome: 'succeeded' };
}

/** The backups that have a manifest, in a listing of their folder. */
function backupsIn(folder: string, names: string[]): Kept[] {
  return names.flatMap(name => {
    if (!name.endsWith('.json') || name.startsWith('.')) return [];
    const manifest = readManifest(join(folder, name));
    const backup = name.slice(0, -5);
    if (!manifest || !names.includes(backup)) return [];
    const isProtected = manifest.protected === true ? { protected: true } : {};
    return [{ name: backup, at: manifest.at, verified: manifest.verified_at !== undefined, ...isProtected }];
  });
}

/** Undefined for what is none: such a backup is never taken away. */
function readManifest(file: string): Manifest | undefined {
  try {
    return readJson<Manifest>(file);
  } catch {
    return undefined;
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function recoveryCard({ kind, name, source }: Taken): string {
  return `# How to get "${name}" back by hand

Each folder here is a whole copy of \`${source}\` (${kind}) as it was at the time in its name (UTC); the file of the same name with .json tells what it
holds. No program but rsync is needed:

    rsync --archive --hard-links --numeric-ids -- <folder>/ <where to>/

Stop what uses the data first, and start it again afterwards. To check a copy, make its digest; it must be the "sha256" of its .json:

    cd <folder> && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum -- | sha256sum
`;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
