import { type FileHandle, open } from 'node:fs/promises';
import type { LogSlice } from '../plan/progress.ts';
import { blankHidden } from './hidden-text.ts';
import { EMPTY_REDACTOR, type Redactor } from './redactor.ts';

/** The largest chunk. */
export const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 20;

/** A part of a step's output: for people, as it is in the file now, and as the program printed it. */
export interface TailedChunk {
  bytes: Buffer;
  raw: Buffer;
  source: LogSlice;
}

/**
 * Reads a file as it grows, from the offset `from`, until `ended` is settled and the file is read to its end. Each chunk ends
 * at a UTF-8 character. Redacts hidden text and secrets, in the file too, so that its chunks can be read again from there.
 * Holds back a possible start of them until more output follows. `inspect` gets each chunk before the file loses its secrets.
 */
export async function* tailLog(
  file: string,
  ended: Promise<unknown>,
  from = 0,
  redactor: Redactor = EMPTY_REDACTOR,
  inspect: (chunk: TailedChunk, isRedacted: boolean) => void | Promise<void> = () => undefined,
): AsyncGenerator<TailedChunk> {
  const handle = await open(file, 'r+');
  let isOver = false;
  let wake = () => {};
  const end = () => {
    isOver = true;
    wake();
  };
  ended.then(end, end);
  // Not a race against `ended`: in hours of waiting each turn would leave a callback there.
  const pause = () =>
    new Promise<void>(resolve => {
      const timer = setTimeout(resolve, POLL_MS);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  let offset = from;
  let spare: Buffer | undefined;
  let last: number | undefined;
  try {
    for (;;) {
      const wasOver = isOver;
      const { buffer, bytesRead } = await handle.read(spare ?? Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
      const isRest = wasOver && bytesRead < CHUNK_BYTES;
      const printed = buffer.subarray(0, bytesRead);
      const readable = Buffer.from(printed);
      const { length: whole, isChanged } = blankHidden(readable, isRest);
      const { length, covered } = redactor.cover(readable.subarray(0, whole), isRest, last);
      if (length > 0) {
        // A single line must not keep a whole buffer in memory.
        const isLittle = length * 4 < CHUNK_BYTES;
        const keep = (bytes: Buffer) => (isLittle ? Buffer.from(bytes.subarray(0, length)) : bytes.subarray(0, length));
        const chunk = { bytes: keep(readable), raw: keep(printed), source: { file, offset, length } };
        const isRedacted = isChanged || covered.length > 0;
        await inspect(chunk, isRedacted);
        if (isRedacted) await writeFully(handle, chunk.bytes, offset);
        yield chunk;
        last = chunk.bytes.at(-1);
        offset += length;
        spare = isLittle ? buffer : undefined;
      } else {
        spare = buffer;
        if (wasOver) return;
      }
      if (bytesRead < CHUNK_BYTES && !isOver) await pause();
    }
  } finally {
    await handle.close();
  }
}

async function writeFully(handle: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, offset + written);
    written += bytesWritten;
  }
}
