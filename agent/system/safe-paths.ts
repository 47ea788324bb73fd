import type { BigIntStats } from 'node:fs';
import {
  chmod,
  constants,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { basename, dirname, join, normalize, relative, sep } from 'node:path';
import { Refused } from '../../protocol/refusal.ts';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import { refusals } from '../refusals.ts';

/*
 * The one rule for paths that containers, a NAS or another user may change: below a trusted root each component is opened by
 * itself and never through a link, and the work is done through what was opened. A path that is checked first and used later
 * can be exchanged in between. Node has no openat(): `/proc/self/fd/N/name` is the same for the kernel.
 *
 * The root itself, and the links on the way to it, belong to the administrator.
 */

/** Opens no more than the name: neither waits for a pipe nor wakes a device. Not among Node's constants. */
const O_PATH = 0o10000000;
const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Identifies a file or folder by what it is, not by its name. */
interface FileIdentity {
  path: string;
  dev: bigint;
  ino: bigint;
}

/** A folder that was opened component by component. Paths through its descriptor can't be exchanged for a link. */
export class OpenFolder implements AsyncDisposable {
  readonly handle: FileHandle;
  /** Its path without links, when it was opened. */
  readonly path: string;

  constructor(handle: FileHandle, path: string) {
    this.handle = handle;
    this.path = path;
  }

  /** Returns a path to an entry of the folder. The entry may be a link. */
  at(name: string): string {
    if (name === '' || name === '.' || name === '..' || name.includes('/')) throw new Error(`Not a file name: ${name}`);
    return `${descriptorPath(this.handle)}/${name}`;
  }

  sync(): Promise<void> {
    return this.handle.sync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.handle.close();
  }
}

/** Returns a path to what a handle has opened, for this process. */
export function descriptorPath({ fd }: { fd: number }): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * Opens a folder below `root`. Creates missing folders with the mode `make`; without it, returns undefined if one is missing.
 * Throws {@link Failure} `path-outside` if a component is a link or not a folder.
 */
export async function openFolder(
  path: string,
  root: string,
  { make }: { make?: number } = {},
): Promise<OpenFolder | undefined> {
  if (make !== undefined) await mkdir(root, { recursive: true });
  const trusted = await resolveRoot(root);
  return descend(trusted.path, namesBelow(path, root, trusted.path), { make, access: O_RDONLY });
}

/** `access`: for the last folder; one on the way need not be readable. `visit` gets each folder that was opened. */
async function descend(
  root: string,
  names: string[],
  { make, access, visit }: { make?: number | undefined; access: number; visit?: (folder: OpenFolder) => Promise<void> },
): Promise<OpenFolder | undefined> {
  const opened = await open(root, (names.length === 0 ? access : O_PATH) | O_DIRECTORY).catch(ignoreCode('ENOENT'));
  if (!opened) return undefined;
  let folder = new OpenFolder(opened, root);
  for (const [index, name] of names.entries()) {
    const flags = index === names.length - 1 ? access : O_PATH;
    const next = await Promise.resolve(visit?.(folder))
      .then(() => openEntry(folder, name, { flags, make }))
      .finally(() => folder.handle.close());
    if (!next) return undefined;
    folder = next;
  }
  await visit?.(folder);
  return folder;
}

async function openEntry(
  folder: OpenFolder,
  name: string,
  { flags, make }: { flags: number; make: number | undefined },
): Promise<OpenFolder | undefined> {
  const at = folder.at(name);
  const path = join(folder.path, name);
  const made = make !== undefined && (await mkdir(at, { mode: make }).then(() => true, ignoreCode('EEXIST'))) === true;
  try {
    const opened = await open(at, flags | O_DIRECTORY | O_NOFOLLOW);
    // The umask took bits from the mode. A share may not know modes.
    if (made) await chmod(descriptorPath(opened), make).catch(() => undefined);
    return new OpenFolder(opened, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && make === undefined) return undefined;
    if (code === 'ELOOP' || code === 'ENOTDIR') throw await unsafePath(at, path);
    throw error;
  }
}

/** Opens a regular file below `root` for reading; undefined if it is missing. Throws as {@link openFolder} and {@link openRegular} do. */
export async function openFile(path: string, root: string): Promise<FileHandle | undefined> {
  await using folder = await openFolder(dirname(path), root);
  return folder && (await openRegular(folder.at(basename(path)), { shown: path }).catch(ignoreCode('ENOENT')));
}

interface OpenOptions {
  /** The path in messages. */
  shown?: string;
  flags?: number;
  /** Follows a link in the last component: for files that only the administrator names. */
  follow?: boolean;
  /** It was listed as a regular file: opened at once and checked then, which is twice as fast for a tree of small files. */
  listed?: boolean;
}

/**
 * Opens a regular file for reading. Neither follows a link in its last component, nor waits for a pipe, nor opens a device.
 * Throws {@link Failure} `path-outside` and `not-a-file`, and the system's error if it does not exist.
 */
export async function openRegular(
  path: string,
  { shown = path, flags = O_RDONLY, follow = false, listed = false }: OpenOptions = {},
): Promise<FileHandle> {
  if (listed) {
    const opened = await open(path, flags | O_NOFOLLOW | O_NONBLOCK);
    if ((await opened.stat()).isFile()) return opened;
    await opened.close();
    throw notAFile(shown);
  }
  const named = await open(path, follow ? O_PATH : O_PATH | O_NOFOLLOW);
  try {
    const found = await named.stat();
    if (found.isSymbolicLink()) throw linkFound(shown);
    if (!found.isFile()) throw notAFile(shown);
    return await open(descriptorPath(named), flags | O_NONBLOCK);
  } finally {
    await named.close();
  }
}

/** Opens a new file, or an existing one as {@link openRegular} does, which is emptied. */
export async function openForWriting(path: string, shown = path): Promise<FileHandle> {
  const made = await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600).catch(ignoreCode('EEXIST'));
  return made ?? openRegular(path, { shown, flags: O_WRONLY | O_TRUNC });
}

/** Removes an entry of a folder with everything in it. A folder that is exchanged for a link meanwhile loses the link only. */
export async function removeTree(folder: OpenFolder, name: string): Promise<void> {
  const at = folder.at(name);
  const removed = await unlink(at).then(() => true, ignoreCode('ENOENT', 'EISDIR', 'EPERM'));
  if (removed || !(await lstat(at).catch(ignoreCode('ENOENT')))?.isDirectory()) return;
  const inner = await openFolderIn(folder, name);
  if (!inner) return;
  await using opened = inner;
  for (const entry of await readdir(descriptorPath(opened.handle))) await removeTree(opened, entry);
  await rmdir(at).catch(ignoreCode('ENOENT'));
}

/** Opens a folder in an opened one; undefined if it is missing. Throws as {@link openFolder} does. */
export function openFolderIn(folder: OpenFolder, name: string): Promise<OpenFolder | undefined> {
  return openEntry(folder, name, { flags: O_RDONLY, make: undefined });
}

/** Throws {@link Failure} `path-outside` if an entry of the folder is a link, down to that depth. */
export async function refuseLinks(folder: OpenFolder, depth: number): Promise<void> {
  for (const entry of await readdir(descriptorPath(folder.handle), { withFileTypes: true })) {
    if (entry.isSymbolicLink()) throw linkFound(join(folder.path, entry.name));
    if (!entry.isDirectory() || depth <= 1) continue;
    await using inner = await openFolderIn(folder, entry.name);
    if (inner) await refuseLinks(inner, depth - 1);
  }
}

/** Reads a regular file of at most `limit` bytes. Throws as {@link openRegular} does, and {@link Failure} `file-too-large`. */
export async function readRegular(path: string, limit: number, options: OpenOptions = {}): Promise<Buffer> {
  const handle = await openRegular(path, options);
  try {
    const { size } = await handle.stat();
    // One byte more than the limit: the file may grow meanwhile.
    const bytes = Buffer.alloc(Math.min(size, limit) + 1);
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got)
      got = (await handle.read(bytes, length, bytes.length - length, length)).bytesRead;
    if (size <= limit && length <= limit) return bytes.subarray(0, length);
    throw new Failure(
      'file-too-large',
      `${path} has ${Math.max(size, length)} bytes, more than the limit of ${limit}.`,
      'Make the file smaller.',
    );
  } finally {
    await handle.close();
  }
}

/** The entry at a path below a trusted root. */
export interface FoundPath {
  /** Without links, also for the part that does not exist. */
  path: string;
  /** Every folder that the path goes through, links of the root included. */
  through: FileIdentity[];
  kind: 'folder' | 'file' | 'link' | 'socket' | 'pipe' | 'device' | undefined;
  /** Present unless `kind` is undefined. */
  identity: FileIdentity | undefined;
}

/** Looks at a path below `root` without opening or changing it. Throws {@link Failure} `path-outside` if a component above it is a link. */
export async function lookUp(path: string, root: string): Promise<FoundPath> {
  const trusted = await resolveRoot(root);
  const names = namesBelow(path, root, trusted.path);
  const target = join(trusted.path, ...names);
  const { through } = trusted;
  if (names.length === 0) return { path: target, through, ...(await identify(target, target)) };
  await using parent = await descend(trusted.path, names.slice(0, -1), {
    access: O_PATH,
    visit: async ({ handle, path }) => {
      const { dev, ino } = await handle.stat({ bigint: true });
      through.push({ path, dev, ino });
    },
  });
  const found = parent ? await identify(parent.at(basename(target)), target) : MISSING;
  return { path: target, through, ...found };
}

const MISSING = { kind: undefined, identity: undefined };

async function identify(at: string, path: string): Promise<Pick<FoundPath, 'kind' | 'identity'>> {
  const stats = await lstat(at, { bigint: true }).catch(ignoreCode('ENOENT'));
  if (!stats) return MISSING;
  return { kind: kindOf(stats), identity: { path, dev: stats.dev, ino: stats.ino } };
}

function kindOf(stats: BigIntStats): FoundPath['kind'] {
  if (stats.isDirectory()) return 'folder';
  if (stats.isFile()) return 'file';
  if (stats.isSymbolicLink()) return 'link';
  if (stats.isSocket()) return 'socket';
  return stats.isFIFO() ? 'pipe' : 'device';
}

/** Throws `Refused` unless the path is `root` or below it, and no existing component below the root is a link. */
export async function requireUnder(path: string, root: string): Promise<void> {
  try {
    const { kind } = await lookUp(path, root);
    if (kind === 'link') throw linkFound(path);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Refused(refusals.pathOutside(path, root));
  }
}

/** Returns the components of the path below its root, which it may name by its real name, too. */
function namesBelow(path: string, root: string, real: string): string[] {
  const start = [root, real].find(one => isUnder(path, one));
  if (start === undefined) {
    throw new Failure('path-outside', `${path} is not under ${root}.`, 'Correct the path.');
  }
  return relative(normalize(start), normalize(path)).split(sep).filter(Boolean);
}

/** Resolves every link of a path, also if its last parts do not exist. */
export async function resolveLinks(path: string): Promise<string> {
  return (await resolveRoot(path)).path;
}

/** The kernel follows no more. */
const MAX_LINKS = 40;

/** Follows the links of a root, also if its last folders do not exist, and notes every folder on the way (without the root). */
async function resolveRoot(root: string): Promise<{ path: string; through: FileIdentity[] }> {
  const through: FileIdentity[] = [];
  let ahead = normalize(root).split(sep).filter(Boolean);
  let path = '/';
  for (let links = 0; ahead.length > 0; ) {
    const { dev, ino } = await stat(path, { bigint: true });
    through.push({ path, dev, ino });
    const [name = '', ...rest] = ahead;
    const next = join(path, name);
    const found = await lstat(next).catch(ignoreCode('ENOENT', 'ENOTDIR', 'EACCES'));
    if (!found) return { path: join(next, ...rest), through };
    if (!found.isSymbolicLink()) {
      path = next;
      ahead = rest;
      continue;
    }
    if (++links > MAX_LINKS) throw new Failure('path-outside', `${root} leads in circles.`, 'Correct its links.');
    const target = await readlink(next);
    if (target.startsWith('/')) path = '/';
    ahead = [...target.split(sep).filter(Boolean), ...rest];
  }
  return { path, through };
}

async function unsafePath(at: string, path: string): Promise<Failure> {
  const stats = await lstat(at).catch(() => undefined);
  if (stats?.isSymbolicLink() !== false) return linkFound(path);
  return new Failure('path-outside', `${path} is not a folder, so nothing is under it.`, 'Correct the path.');
}

function notAFile(path: string): Failure {
  return new Failure(
    'not-a-file',
    `${path} exists on the host and is not a regular file.`,
    'Move it away on the host, or name another path.',
  );
}

function linkFound(path: string): Failure {
  return new Failure(
    'path-outside',
    `${path} is a link, and links are not followed there.`,
    'Replace the link with the file or folder itself on the host, or correct the path.',
  );
}

function ignoreCode(...codes: string[]): (error: NodeJS.ErrnoException) => undefined {
  return error => {
    if (!codes.includes(error.code ?? '')) throw error;
    return undefined;
  };
}
