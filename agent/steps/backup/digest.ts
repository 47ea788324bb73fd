import { createHash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { BackupContent } from '../../plan/backup-manifest.ts';
import { walkFiles } from './files.ts';

/**
 * Reads every byte. The digest of a folder is the digest of the list that sha256sum prints for its regular files, sorted by
 * path: an operator can compute it too. The list is written to `checksums` if that is given.
 */
export async function readBackup(path: string, signal: AbortSignal, checksums?: string): Promise<BackupContent> {
  if ((await stat(path)).isFile()) return { files: 1, ...(await digestFile(path, signal)) };
  const paths: string[] = [];
  let files = 0;
  for await (const entry of walkFiles(path)) {
    files++;
    if (entry.regular) paths.push(entry.path);
  }
  const list = createHash('sha256');
  const written = checksums === undefined ? undefined : createWriteStream(checksums, { mode: 0o600 });
  let bytes = 0;
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (let at = 0; at < paths.length; at += READ_BUFFERS.length) {
    const batch = paths.slice(at, at + READ_BUFFERS.length);
    const reads = await Promise.all(batch.map((one, lane) => digestFile(join(path, one), signal, READ_BUFFERS[lane])));
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

/** Returns digests by path from a list of sha256sum; empty if there is no list. */
export async function readChecksums(file: string): Promise<Map<string, string>> {
  const checksums = new Map<string, string>();
  const handle = await open(file).catch(() => undefined);
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

/** `buffer`: not in use by another call. */
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
