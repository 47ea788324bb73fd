import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  open,
  readdir,
  readlink,
  rename,
  rmdir,
  statfs,
  symlink,
  unlink,
} from 'node:fs/promises';
import { Failure } from '../../plan/failure.ts';
import type { CompareCopyStep } from '../../plan/plan.ts';
import { descriptorPath, openFolder, openFolderIn } from '../../system/safe-paths.ts';
import { cancelledResult, type StepExecution } from '../runner.ts';
import { openGroup } from './files.ts';
import { findTimeUnit } from './time-unit.ts';

/*
 * rsync opens what it copies by its path, so a program in a container can exchange a folder for a link meanwhile, and files of
 * the host get into the copy. Each exchange changes the folder that holds the exchanged one, and the kernel notes when: what is
 * below folders that have not changed since the run began is what was copied. The rest is compared with the source, through
 * opened folders.
 */

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** The kernel's clock for files is coarser than that of the agent. */
const CLOCK_MARGIN_MS = 1_000;
/** File systems that note the time of each change by this machine's own clock, and their types in the answer of statfs. */
const TIMED_FILE_SYSTEMS = {
  ...{ ext4: 0xef53, xfs: 0x58465342, btrfs: 0x9123683e, zfs: 0x2fc12fc1, bcachefs: 0xca451a4e, f2fs: 0xf2f52010 },
  ...{ tmpfs: 0x01021994, overlay: 0x794c7630 },
};
const LANES = 8;
const CHUNK_BYTES = 1024 * 1024;
const SHOWN = 5;

interface Findings {
  removed: string[];
  renewed: string[];
}

/** Makes everything in a copy what the source shows through folders that were opened one by one. */
export async function* compareCopy(step: CompareCopyStep, { signal }: { signal: AbortSignal }): StepExecution {
  await using source = await openFolder(step.source, step.sourceRoot);
  await using group = await openGroup(step);
  await using copy = await openFolderIn(group, step.copy);
  if (!source || !copy)
    throw new Failure('path-missing', `${source ? step.copy : step.source} does not exist.`, 'Run the backup again.');
  const { type } = await statfs(descriptorPath(source.handle));
  const walk = new Comparison(
    {
      since: Object.values(TIMED_FILE_SYSTEMS).includes(type)
        ? BigInt(Date.parse(step.since) - CLOCK_MARGIN_MS) * 1_000_000n
        : 0n,
      unit: await findTimeUnit(group),
      owners: step.owners,
    },
    signal,
  );
  try {
    await walk.folder(copy.handle, source.handle, Buffer.alloc(0), false);
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    throw error;
  }
  const { removed, renewed } = walk.found;
  if (renewed.length > 0) yield { text: `copied again, changed meanwhile: ${list(renewed)}\n` };
  if (removed.length > 0) yield { text: `warning: removed from the copy, not in the source: ${list(removed)}\n` };
  yield { text: `${walk.compared} entries compared\n` };
  return { outcome: 'succeeded' };
}

function list(paths: string[]): string {
  const rest = paths.length - SHOWN;
  return paths.slice(0, SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

interface ComparisonOptions {
  /** Nanoseconds since 1970: folders that changed before it held the same entries during the copy. */
  since: bigint;
  /** Nanoseconds to which the copy's file system keeps times. */
  unit: bigint;
  owners: boolean;
}

/** Names are bytes: a name that is not UTF-8 is one, too. */
type Name = Buffer;

class Comparison {
  readonly found: Findings = { removed: [], renewed: [] };
  compared = 0;
  readonly #options: ComparisonOptions;
  readonly #signal: AbortSignal;

  constructor(options: ComparisonOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  /** Compares a folder of the copy with that of the source. `exchanged`: a folder above it changed since the run began. */
  async folder(copy: FileHandle, source: FileHandle, path: Buffer, exchanged: boolean): Promise<void> {
    const { ctimeNs } = await source.stat({ bigint: true });
    const suspect = exchanged || ctimeNs >= this.#options.since;
    const entries = await readdir(descriptorPath(copy), { encoding: 'buffer', withFileTypes: true });
    for (let at = 0; at < entries.length; at += LANES) {
      this.#signal.throwIfAborted();
      const files = entries.slice(at, at + LANES).filter(entry => suspect && !entry.isDirectory());
      await Promise.all(files.map(({ name }) => this.#entry({ copy, source, name, path: join(path, name) })));
    }
    for (const { name } of entries.filter(entry => entry.isDirectory()))
      await this.#inner({ copy, source, name, path: join(path, name) }, suspect);
  }

  async #inner(place: Place, suspect: boolean): Promise<void> {
    const copy = await openInner(place.copy, place.name);
    const source = await openInner(place.source, place.name);
    try {
      if (copy && source) await this.folder(copy, source, place.path, suspect);
      else if (copy) await this.#remove(place);
    } finally {
      await copy?.close();
      await source?.close();
    }
  }

  async #entry(place: Place): Promise<void> {
    this.compared++;
    const [copied, there] = await Promise.all([look(place.copy, place.name), look(place.source, place.name)]);
    if (!copied) return;
    if (there?.isFile() && copied.isFile()) {
      const isSame = copied.size === there.size && this.#isSameTime(copied.mtimeNs, there.mtimeNs);
      // Times that a destination rounds can be guessed, so they prove nothing of what may have been exchanged.
      if (isSame && this.#options.unit <= FINE_NS) return;
      if (isSame && (await hasSameContent(place, this.#signal))) return;
      return this.#renew(place);
    }
    const [own, target] = await Promise.all([linkOf(place.copy, place.name), linkOf(place.source, place.name)]);
    if (!own || !target) return this.#remove(place);
    if (target.equals(own)) return;
    await unlink(pathIn(place.copy, place.name));
    await symlink(target, pathIn(place.copy, place.name));
    this.found.renewed.push(place.path.toString());
  }

  #isSameTime(copied: bigint, there: bigint): boolean {
    const { unit } = this.#options;
    return copied / unit === there / unit;
  }

  async #remove({ copy, name, path }: Place): Promise<void> {
    await removeIn(copy, name);
    this.found.removed.push(path.toString());
  }

  /** Copies a file from the source again. A new file: earlier backups may share the old one. */
  async #renew(place: Place): Promise<void> {
    const from = await openFileIn(place.source, place.name);
    if (!from) return this.#remove(place);
    const temporary = Buffer.from(`.chatops-again-${randomBytes(8).toString('hex')}`);
    try {
      const to = await open(pathIn(place.copy, temporary), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      try {
        await copyBytes(from, to, this.#signal);
        const { uid, gid, mode, atime, mtime } = await from.stat();
        if (this.#options.owners) await to.chown(uid, gid);
        await to.chmod(mode & 0o7777);
        await to.utimes(atime, mtime);
      } finally {
        await to.close();
      }
      await rename(pathIn(place.copy, temporary), pathIn(place.copy, place.name));
      this.found.renewed.push(place.path.toString());
    } finally {
      await from.close();
      await unlink(pathIn(place.copy, temporary)).catch(absent);
    }
  }
}

/** Times up to this unit are too fine to be guessed. */
const FINE_NS = 100n;

interface Place {
  copy: FileHandle;
  source: FileHandle;
  name: Name;
  /** For people. */
  path: Buffer;
}

function join(path: Buffer, name: Name): Buffer {
  return path.length === 0 ? name : Buffer.concat([path, Buffer.from('/'), name]);
}

function pathIn(folder: FileHandle, name: Name): Buffer {
  return Buffer.concat([Buffer.from(`${descriptorPath(folder)}/`), name]);
}

function look(folder: FileHandle, name: Name) {
  return lstat(pathIn(folder, name), { bigint: true }).catch(absent);
}

/** Returns the text of a link; undefined for anything else. */
function linkOf(folder: FileHandle, name: Name): Promise<Buffer | undefined> {
  return readlink(pathIn(folder, name), { encoding: 'buffer' }).catch(absent);
}

/** Removes an entry with everything in it. A folder that is exchanged for a link meanwhile loses the link only. */
async function removeIn(folder: FileHandle, name: Name): Promise<void> {
  const inner = await openInner(folder, name);
  if (!inner) return unlink(pathIn(folder, name)).catch(absent);
  try {
    for (const entry of await readdir(descriptorPath(inner), { encoding: 'buffer' })) await removeIn(inner, entry);
  } finally {
    await inner.close();
  }
  await rmdir(pathIn(folder, name)).catch(absent);
}

function openInner(folder: FileHandle, name: Name): Promise<FileHandle | undefined> {
  return open(pathIn(folder, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch(absent);
}

/** Opens a regular file; undefined for anything else. Neither follows a link nor waits for a pipe. */
async function openFileIn(folder: FileHandle, name: Name): Promise<FileHandle | undefined> {
  const opened = await open(pathIn(folder, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(absent);
  if (!opened || (await opened.stat()).isFile()) return opened;
  await opened.close();
  return undefined;
}

/** The entry is gone, or is another kind than when it was listed. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (!['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EINVAL'].includes(error.code ?? '')) throw error;
  return undefined;
}

async function copyBytes(from: FileHandle, to: FileHandle, signal: AbortSignal): Promise<void> {
  const buffer = Buffer.alloc(CHUNK_BYTES);
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    for (let written = 0; written < bytesRead; )
      written += (await to.write(buffer, written, bytesRead - written)).bytesWritten;
  }
}

async function hasSameContent({ copy, source, name }: Place, signal: AbortSignal): Promise<boolean> {
  const [one, other] = [await openFileIn(copy, name), await openFileIn(source, name)];
  try {
    if (!one || !other) return false;
    const [left, right] = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)];
    for (;;) {
      signal.throwIfAborted();
      const [length, otherLength] = await Promise.all([fill(one, left), fill(other, right)]);
      if (length !== otherLength || !left.subarray(0, length).equals(right.subarray(0, length))) return false;
      if (length === 0) return true;
    }
  } finally {
    await one?.close();
    await other?.close();
  }
}

/** Reads until the buffer is full or the file ends. */
async function fill(file: FileHandle, buffer: Buffer): Promise<number> {
  let length = 0;
  for (let got = -1; got !== 0 && length < buffer.length; length += got)
    got = (await file.read(buffer, length, buffer.length - length, null)).bytesRead;
  return length;
}
