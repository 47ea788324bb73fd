import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Failure } from '../plan/failure.ts';
import type { FileChange } from '../plan/plan.ts';
import { writeDurably } from './durable-files.ts';
import { type OpenFolder, openFolder, openRegular } from './safe-paths.ts';

/** One line of a `write` step's record: the file that was at `path` before. `kept` is its copy, null if there was none. */
interface RecordedFile {
  path: string;
  root: string;
  kept: string | null;
  mode: number;
}

const RECORD = 'record.jsonl';

export interface ChangedFile {
  path: string;
  change: 'written' | 'removed';
}

/**
 * Makes the changes in order, each atomically. Copies the replaced file to `keptDir` first and records it there durably, so
 * that `restoreFiles` can restore it also after a crash. Yields each changed path, except for the agent's own files.
 * Throws {@link Failure}.
 */
export async function* changeFiles(
  changes: FileChange[],
  keptDir: string,
  readContent: (change: FileChange) => Promise<Buffer>,
): AsyncGenerator<ChangedFile> {
  await mkdir(keptDir, { recursive: true, mode: 0o700 });
  // The changes that an earlier agent made before it ended.
  const earlier = await readRecord(keptDir);
  const changedEarlier = new Set(earlier.kept.map(({ path }) => path));
  let count = earlier.kept.length;
  const record = await open(join(keptDir, RECORD), 'a', 0o600);
  await record.truncate(earlier.bytes);
  try {
    for (const change of changes) {
      const made = await toFailure(change.path, async () => {
        await using folder = await openFolderOf(change, !('remove' in change));
        if (!folder) return undefined;
        const name = basename(change.path);
        const before = await readBefore(change.path, folder.at(name));
        if ('remove' in change) {
          if (!before) return undefined;
          await recordFile(record, keptDir, `${count++}`, change, before);
          await removeFile(folder, name);
          return 'removed';
        }
        const bytes = await readContent(change);
        if (before?.bytes.equals(bytes) && before.mode === change.mode) return undefined;
        await recordFile(record, keptDir, `${count++}`, change, before);
        await replaceFile(folder, name, change.mode, bytes);
        return 'written';
      });
      if (change.own) continue;
      if (made) yield { path: change.path, change: made };
      else if (changedEarlier.has(change.path))
        yield { path: change.path, change: 'remove' in change ? 'removed' : 'written' };
    }
  } finally {
    await record.close();
  }
}

/** Restores every file that `changeFiles` recorded in `keptDir`, the last change first. Yields each path. Throws {@link Failure}. */
export async function* restoreFiles(keptDir: string): AsyncGenerator<ChangedFile> {
  for (const was of (await readRecord(keptDir)).kept.toReversed()) {
    await toFailure(was.path, async () => {
      await using folder = await openFolderOf(was, was.kept !== null);
      if (!folder) return;
      if (was.kept === null) await removeFile(folder, basename(was.path));
      else await replaceFile(folder, basename(was.path), was.mode, await readFile(join(keptDir, was.kept)));
    });
    yield { path: was.path, change: was.kept === null ? 'removed' : 'written' };
  }
}

/** Ignores a last line that is not whole: the agent ended while it wrote it, before it changed the file. */
async function readRecord(keptDir: string): Promise<{ kept: RecordedFile[]; bytes: number }> {
  const text = await readFile(join(keptDir, RECORD), 'utf8').catch(() => '');
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const lines = whole.split('\n').filter(Boolean);
  return { kept: lines.map(line => JSON.parse(line) as RecordedFile), bytes: Buffer.byteLength(whole) };
}

function openFolderOf({ path, root }: { path: string; root: string }, make: boolean): Promise<OpenFolder | undefined> {
  return openFolder(dirname(path), root, make ? { make: 0o755 } : {});
}

/** Returns the file that exists now, if there is one. `safePath` leads to it through its folder's descriptor. */
async function readBefore(path: string, safePath: string): Promise<{ bytes: Buffer; mode: number } | undefined> {
  const handle = await openRegular(safePath, { shown: path }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (!handle) return undefined;
  try {
    return { bytes: await handle.readFile(), mode: (await handle.stat()).mode & 0o7777 };
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

async function replaceFile(folder: OpenFolder, name: string, mode: number, bytes: Buffer): Promise<void> {
  const partial = folder.at(`.${name.slice(0, 100)}.${randomBytes(6).toString('hex')}.partial`);
  await writeDurably(folder.at(name), bytes, { mode, partial });
  await folder.sync();
}

async function removeFile(folder: OpenFolder, name: string): Promise<void> {
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
        'Free space on that file system, then run it again.',
      );
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

/** Returns true if the path is a folder. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    stats => stats.isDirectory(),
    () => false,
  );
}
