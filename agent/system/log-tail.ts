import { isUtf8 } from 'node:buffer';
import { open } from 'node:fs/promises';
import type { LogSlice } from '../plan/progress.ts';
import { EMPTY_REDACTOR, type Redactor } from './redactor.ts';

/** Largest piece in bytes. */
export const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 20;

/**
 * Reads a file as it grows, in pieces that end at UTF-8 character borders, until `ended` is settled and the file is read
 * to its end. `from` is the offset to begin at. Secrets become stars, in the file too, so that its pieces can be read again
 * from there; what may be the beginning of one waits for what follows.
 */
export async function* tailLog(
  file: string,
  ended: Promise<unknown>,
  from = 0,
  redactor: Redactor = EMPTY_REDACTOR,
): AsyncGenerator<{ bytes: Buffer; source: LogSlice }> {
  const handle = await open(file, 'r+');
  let over = false;
  let wake = () => {};
  const end = () => {
    over = true;
    wake();
  };
  ended.then(end, end);
  // Not a race against `ended`: for hours of waiting that would keep a callback for each turn.
  const pause = () =>
    new Promise<void>(done => {
      const timer = setTimeout(done, POLL_MS);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  let offset = from;
  let room: Buffer | undefined;
  try {
    for (;;) {
      const wasOver = over;
      const { buffer, bytesRead } = await handle.read(room ?? Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
      const isRest = wasOver && bytesRead < CHUNK_BYTES;
      const whole = isRest ? bytesRead : countWholeCharacters(buffer, bytesRead);
      const { length, covered } = redactor.cover(buffer.subarray(0, whole), isRest);
      for (const [start, end] of covered) await handle.write(buffer, start, end - start, offset + start);
      if (length > 0) {
        // Little output, as it comes line by line, must not hold a whole chunk each.
        const isLittle = length * 4 < CHUNK_BYTES;
        const piece = isLittle ? Buffer.from(buffer.subarray(0, length)) : buffer.subarray(0, length);
        yield { bytes: toUtf8(piece), source: { file, offset, length } };
        offset += length;
        room = isLittle ? buffer : undefined;
      } else {
        room = buffer;
        if (wasOver) return;
      }
      if (bytesRead < CHUNK_BYTES && !over) await pause();
    }
  } finally {
    await handle.close();
  }
}

/** The bytes, with U+FFFD for what is not UTF-8: the same bytes always give the same. */
export function toUtf8(bytes: Buffer): Buffer {
  return isUtf8(bytes) ? bytes : Buffer.from(bytes.toString('utf8'));
}

/** How many of the first `length` bytes don't end inside a UTF-8 character. Bytes that can't be UTF-8 count as whole. */
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
