import { isUtf8 } from 'node:buffer';
import { open } from 'node:fs/promises';
import type { LogSlice } from '../plan/progress.ts';
import { EMPTY_REDACTOR, type Redactor } from './redactor.ts';

/** The largest chunk. */
export const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 20;

/**
 * Reads a file as it grows, from the offset `from`, until `ended` is settled and the file is read to its end. Each chunk ends
 * at a UTF-8 character. Redacts secrets, in the file too, so that its chunks can be read again from there. Holds back a
 * possible start of a secret until more output follows.
 */
export async function* tailLog(
  file: string,
  ended: Promise<unknown>,
  from = 0,
  redactor: Redactor = EMPTY_REDACTOR,
): AsyncGenerator<{ bytes: Buffer; source: LogSlice }> {
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
  try {
    for (;;) {
      const wasOver = isOver;
      const { buffer, bytesRead } = await handle.read(spare ?? Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
      const isRest = wasOver && bytesRead < CHUNK_BYTES;
      const whole = isRest ? bytesRead : countWholeCharacters(buffer, bytesRead);
      const { length, covered } = redactor.cover(buffer.subarray(0, whole), isRest);
      for (const [start, end] of covered) await handle.write(buffer, start, end - start, offset + start);
      if (length > 0) {
        // A single line must not keep a whole buffer in memory.
        const isLittle = length * 4 < CHUNK_BYTES;
        const chunk = isLittle ? Buffer.from(buffer.subarray(0, length)) : buffer.subarray(0, length);
        yield { bytes: toUtf8(chunk), source: { file, offset, length } };
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

/** Replaces invalid UTF-8 with U+FFFD. The same bytes always give the same result. */
export function toUtf8(bytes: Buffer): Buffer {
  return isUtf8(bytes) ? bytes : Buffer.from(bytes.toString('utf8'));
}

/** Returns how many of the first `length` bytes are whole UTF-8 characters. Invalid bytes count as whole. */
export function countWholeCharacters(bytes: Uint8Array, length: number): number {
  for (let back = 1; back <= 3 && back <= length; back++) {
    const byte = bytes[length - back] ?? 0;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue;
    const needed =
      byte >= 0b1111_0000 && byte < 0b1111_1000 ? 4 : byte >= 0b1110_0000 ? 3 : byte >= 0b1100_0000 ? 2 : 1;
    return byte < 0b1111_1000 && needed > back ? length - back : length;
  }
  return length;
}
