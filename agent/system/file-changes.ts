import { randomBytes } from 'node:crypto';
import { constants, type FileHandle, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import type { FileChange } from '../plan/plan.ts';
import { writeDurably } from './durable-files.ts';

/** One line of the record of a `write` step: what was at `path` before. `kept` is null where nothing was. */
interface RecordedFile {
  path: string;
  root: string;
  kept: string | null;
  mode: number;
}

const RECORD = 'record.jsonl';

/**
 * Carries out changes in order, each atomically. What was there before is copied to `keptFolder` first, and recorded there
 * durably, so that `restoreFiles` can put it back also after a crash. `content` gives a change's bytes.
 * Yields each path that is not as it was, but for the agent's own. Throws {@link Failure}.
 */
export async function* changeFiles(
  changes: FileChange[],
  keptDir: string,
  content: (change: FileChange & { content: unknown }) => Promise<Buffer>,
): AsyncGenerator<{ path: string; did: 'written' | 'removed' }> {
  await mkdir(keptDir, { recursive: true, mode: 0o700 });
  // What an agent that ended meanwhile has done of it already.
  const before = await readRecord(keptDir);
  const earlier = new Set(before.kept.map(({ path }) => path));
  let count = before.kept.length;
  const record = await open(join(keptDir, RECORD), 'a', 0o600);
  await record.truncate(before.bytes);
  try {
    for (const change of changes) {
      const did = await toFailure(change.path, async () => {
        using folder = await openFolder(change.path, change.root, !('remove' in change));
        if (!folder && 'remove' in change) return undefined;
        if (!folder) throw outsideRoot(change.path, change.root);
        const name = basename(change.path);
        const before = await readBefore(change.path, folder.at(name));
        if ('remove' in change) {
          if (!before) return undefined;
          await recordFile(record, keptDir, `${count++}`, change, before);
          await removeFile(folder, name);
          return 'removed';
        }
        const bytes = await content(change);
        if (before?.bytes.equals(bytes) && before.mode === change.mode) return undefined;
        await recordFile(record, keptDir, `${count++}`, change, before);
        await replaceFile(folder, name, change.mode, bytes);
        return 'written';
      });
      if (change.own) continue;
      if (did) yield { path: change.path, did };
      else if (earlier.has(change.path)) yield { path: change.path, did: 'remove' in change ? 'removed' : 'written' };
    }
  } finally {
    await record.close();
  }
}

/** Puts back everything that `changeFiles` recorded in `keptFolder`, last change first. Yields each path. Throws {@link Failure}. */
export async function* restoreFiles(keptDir: string): AsyncGenerator<{ path: string; did: 'written' | 'removed' }> {
  for (const was of (await readRecord(keptDir)).kept.toReversed()) {
    await toFailure(was.path, async () => {
      using folder = await openFolder(was.path, was.root, was.kept !== null);
      if (!folder) return;
      if (was.kept === null) await removeFile(folder, basename(was.path));
      else await replaceFile(folder, basename(was.path), was.mode, await readFile(join(keptDir, was.kept)));
    });
    yield { path: was.path, did: was.kept === null ? 'removed' : 'written' };
  }
}

/** A last line that is not whole was being written when the agent ended: what it speaks of had not been touched. */
async function readRecord(keptDir: string): Promise<{ kept: RecordedFile[]; bytes: number }> {
  const text = await readFile(join(keptDir, RECORD), 'utf8').catch(() => '');
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const lines = whole.split('\n').filter(Boolean);
  return { kept: lines.map(line => JSON.parse(line) as RecordedFile), bytes: Buffer.byteLength(whole) };
}

/** A folder that stays the same one whatever is renamed or linked meanwhile: paths go through its descriptor. */
class Folder implements Disposable {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  at(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  [Symbol.dispose](): void {
    void this.#handle.close();
  }
}

/**
 * Opens the folder of `path`, going down from `root` one name at a time without following a link, so that a link that is
 * put in place between check and use leads nowhere. Makes missing folders where `make` says so; else undefined for one.
 */
async function openFolder(path: string, root: string, make: boolean): Promise<Folder | undefined> {
  if (!isUnder(dirname(path), root)) throw outsideRoot(path, root);
  const inside = relative(root, dirname(path));
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  if (make) await mkdir(root, { recursive: true });
  let handle = await open(root, constants.O_RDONLY | constants.O_DIRECTORY);
  for (const name of inside.split(sep).filter(Boolean)) {
    const next = `/proc/self/fd/${handle.fd}/${name}`;
    try {
      if (make) await mkdir(next, { mode: 0o755 }).catch(ignoreCode('EEXIST'));
      const opened = await open(next, flags);
      await handle.close();
      handle = opened;
    } catch (error) {
      await handle.close();
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' && !make) return undefined;
      if (code === 'ELOOP' || code === 'ENOTDIR') throw outsideRoot(path, root);
      throw error;
    }
  }
  return new Folder(handle);
}

/** The file that is there now, or undefined. */
async function readBefore(path: string, now: string): Promise<{ bytes: Buffer; mode: number } | undefined> {
  const handle = await open(now, constants.O_RDONLY | constants.O_NOFOLLOW).catch(ignoreCode('ENOENT'));
  if (!handle) return undefined;
  try {
    const found = await handle.stat();
    if (found.isFile()) return { bytes: await handle.readFile(), mode: found.mode & 0o7777 };
    throw new Failure(
      'not-a-file',
      `${path} exists on the host and is not a regular file.`,
      'Move it away on the host, or leave it out of source_dir.',
    );
  } finally {
    await handle.close();
  }
}

async function recordFile(
  record: FileHandle,
  keptDir: string,
  name: string,
  change: FileChange,
  before: { bytes: Buffer; mode: number } | undefined,
): Promise<void> {
  const entry: RecordedFile = {
    path: change.path,
    root: change.root,
    kept: before ? name : null,
    mode: before?.mode ?? 0o644,
  };
  if (before) await writeDurably(join(keptDir, name), before.bytes);
  await record.appendFile(`${JSON.stringify(entry)}\n`);
  await record.sync();
}

async function replaceFile(folder: Folder, name: string, mode: number, bytes: Buffer): Promise<void> {
  const partial = folder.at(`.${name.slice(0, 100)}.${randomBytes(6).toString('hex')}.partial`);
  await writeDurably(folder.at(name), bytes, { mode, partial });
  await folder.sync();
}

async function removeFile(folder: Folder, name: string): Promise<void> {
  await rm(folder.at(name), { force: true });
  await folder.sync();
}

async function toFailure<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new Failure(
        'disk-full',
        `No space is left for ${path}.`,
        'Make room on that file system, then run it again.',
      );
    }
    if (code === 'ELOOP') {
      throw new Failure('path-outside', `${path} is a link.`, 'Replace the link by a file or folder on the host.');
    }
    if (code !== undefined) {
      throw new Failure(
        'write-failed',
        `${path} could not be written: ${message}`,
        'Let the agent’s user write there.',
      );
    }
    throw error;
  }
}

function outsideRoot(path: string, root: string): Failure {
  return new Failure(
    'path-outside',
    `${path} does not stay under ${root} once links are resolved.`,
    'Replace the link by a folder on the host, or correct the path.',
  );
}

function ignoreCode(code: string): (error: NodeJS.ErrnoException) => undefined {
  return error => {
    if (error.code !== code) throw error;
    return undefined;
  };
}

/** Whether a folder is there. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    found => found.isDirectory(),
    () => false,
  );
}
