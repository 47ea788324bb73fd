import { createHash } from 'node:crypto';
import type { WriteStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { lstat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { BackupContent } from '../../plan/backup-manifest.ts';
import { type OpenFolder, openFolderIn, openForWriting, openRegular, removeTree } from '../../system/safe-paths.ts';
import { walkFiles } from './files.ts';

/**
 * Reads every byte of an entry of the folder. The digest of a folder is the digest of the list that sha256sum prints for its
 * regular files, sorted by path: an operator can compute it too. The list is written to the entry `checksums` if that is given.
 */
export async function readBackup(
  folder: OpenFolder,
  name: string,
  signal: AbortSignal,
  checksums?: string,
): Promise<BackupContent> {
  if (!(await lstat(folder.at(name))).isDirectory())
    return {
      files: 1,
      ...(await digestFile(await openRegular(folder.at(name), { shown: `${folder.path}/${name}` }), signal)),
    };
  const top = await openFolderIn(folder, name);
  if (!top) throw new Error(`${name} was removed meanwhile`);
  await using tree = new TreeReader(top);
  const paths: string[] = [];
  let files = 0;
  for await (const entry of walkFiles(top)) {
    files++;
    if (entry.regular) paths.push(entry.path);
  }
  const list = createHash('sha256');
  if (checksums !== undefined) await removeTree(folder, checksums);
  const written =
    checksums === undefined ? undefined : (await openForWriting(folder.at(checksums))).createWriteStream();
  let bytes = 0;
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (let at = 0; at < paths.length; at += READ_BUFFERS.length) {
    const batch = paths.slice(at, at + READ_BUFFERS.length);
    const handles = await tree.open(batch);
    const reads = await Promise.all(handles.map((one, lane) => digestFile(one, signal, READ_BUFFERS[lane])));
    for (const [index, one] of batch.entries()) {
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

/** Opens files of a tree through their folders. Keeps the folders of the last files open: the next ones are near. */
class TreeReader implements AsyncDisposable {
  readonly #folders = new Map<string, OpenFolder>();

  constructor(top: OpenFolder) {
    this.#folders.set('', top);
  }

  /** Opens the files at these paths. Either all are opened or none. */
  async open(paths: string[]): Promise<FileHandle[]> {
    for (const path of paths) await this.#folder(parentOf(path));
    const opening = await Promise.allSettled(paths.map(path => this.#openFile(path)));
    const handles = opening.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []));
    const failed = opening.find(one => one.status === 'rejected');
    if (failed) {
      await Promise.all(handles.map(handle => handle.close()));
      throw failed.reason;
    }
    await this.#closeAllBut(parentOf(paths.at(-1) ?? ''));
    return handles;
  }

  async #openFile(path: string): Promise<FileHandle> {
    const folder = await this.#folder(parentOf(path));
    return openRegular(folder.at(path.slice(path.lastIndexOf('/') + 1)), { shown: path, listed: true });
  }

  async #folder(path: string): Promise<OpenFolder> {
    const known = this.#folders.get(path);
    if (known) return known;
    const parent = await this.#folder(parentOf(path));
    const opened = await openFolderIn(parent, path.slice(path.lastIndexOf('/') + 1));
    if (!opened) throw new Error(`${path} was removed meanwhile`);
    this.#folders.set(path, opened);
    return opened;
  }

  async #closeAllBut(last: string): Promise<void> {
    for (const [path, folder] of this.#folders) {
      if (path === '' || path === last || last.startsWith(`${path}/`)) continue;
      this.#folders.delete(path);
      await folder.handle.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const folder of this.#folders.values()) await folder.handle.close();
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** Returns digests by path from a list of sha256sum; empty if there is no list. */
export async function readChecksums(folder: OpenFolder, file: string): Promise<Map<string, string>> {
  const checksums = new Map<string, string>();
  const handle = await openRegular(folder.at(file)).catch(() => undefined);
  if (!handle) return checksums;
  for await (const line of createInterface(handle.createReadStream())) {
    const [, sha256 = '', path = ''] = /^\\?([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    checksums.set(path, sha256);
  }
  return checksums;
}

/** Follows sha256sum: a backslash at the start of the line says that backslashes and newlines in the name are escaped. */
function checksumLine(sha256: string, path: string): string {
  if (!/[\\\n]/.test(path)) return `${sha256}  ${path}\n`;
  return `\\${sha256}  ${path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n`;
}

function drained(stream: WriteStream): Promise<void> {
  return new Promise<void>(done => stream.once('drain', () => done()));
}

/** One buffer for each file that is read at the same time: with small files most of the time goes into opening them. */
const READ_BUFFERS = Array.from({ length: 8 }, () => Buffer.alloc(128 * 1024));

/** Reads the file and closes it. `buffer`: not in use by another call. */
async function digestFile(
  handle: FileHandle,
  signal: AbortSignal,
  buffer = Buffer.alloc(128 * 1024),
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
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
