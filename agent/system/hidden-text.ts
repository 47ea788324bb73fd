import { isUtf8 } from 'node:buffer';
import { COLOR_SEQUENCE, terminalSequence } from '../../protocol/plain-text.ts';

/*
 * The same characters and sequences as in toPlainText, but in the bytes of UTF-8 (as latin1 text): positions in a log's file
 * must stay valid, and its bytes may be no UTF-8.
 */

/** Stands in a log's file for each byte of what was removed. Readers of the file leave it out. */
const NUL = 0;

const upper = (code: number) => `\\xc2\\x${code.toString(16)}`;

/** The characters of `\p{Default_Ignorable_Code_Point}`, and the separators U+2028 and U+2029. */
const IGNORABLE = [
  '\\xc2\\xad|\\xcd\\x8f|\\xd8\\x9c',
  '\\xe1(?:\\x85[\\x9f\\xa0]|\\x9e[\\xb4\\xb5]|\\xa0[\\x8b-\\x8f])',
  '\\xe2(?:\\x80[\\x8b-\\x8f\\xa8-\\xae]|\\x81[\\xa0-\\xaf])',
  '\\xe3\\x85\\xa4',
  '\\xef(?:\\xb8[\\x80-\\x8f]|\\xbb\\xbf|\\xbe\\xa0|\\xbf[\\xb0-\\xb8])',
  '\\xf0(?:\\x9b\\xb2[\\xa0-\\xa3]|\\x9d\\x85[\\xb3-\\xba])',
  '\\xf3\\xa0[\\x80-\\xbf][\\x80-\\xbf]',
].join('|');
const CONTROL = '[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]|\\xc2[\\x80-\\x9f]';

// biome-ignore lint/suspicious/noControlCharactersInRegex: this expression finds control characters.
const MAY_BE_HIDDEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xc2\xcd\xd8\xe1-\xe3\xef\xf0\xf3]/;
const COLOR_OR_HIDDEN = new RegExp(`(${COLOR_SEQUENCE})|${terminalSequence(upper)}|${CONTROL}|${IGNORABLE}`, 'g');

/** Bytes; a longer unfinished sequence is text. */
const LONGEST_SEQUENCE = 4096;
/** A sequence that the end of the bytes cuts. */
const UNFINISHED = new RegExp(
  [
    `(?:\\x1b\\[|${upper(0x9b)})[0-?]*[ -/]*$`,
    `(?:\\x1b\\]|${upper(0x9d)})[^\\x07\\x1b\\r\\n]*\\x1b?$`,
    '(?:\\x1b[PX^_]|\\xc2[\\x90\\x98\\x9e\\x9f])[^\\x1b\\r\\n]*\\x1b?$',
    '\\x1b[ -/]*$',
  ].join('|'),
);

/**
 * Overwrites what a reader would not see with NUL. Unless this is the end, `length` stops before a sequence or a character
 * that the bytes cut: its bytes must come again with those that follow.
 */
export function blankHidden(bytes: Buffer, isEnd: boolean): { length: number; isChanged: boolean } {
  const whole = isEnd ? bytes.length : countWholeCharacters(bytes, bytes.length);
  const text = bytes.toString('latin1', 0, whole);
  if (!MAY_BE_HIDDEN.test(text)) return { length: whole, isChanged: false };
  const length = isEnd ? whole : findUnfinished(text);
  let isChanged = false;
  for (const found of text.slice(0, length).matchAll(COLOR_OR_HIDDEN)) {
    if (found[1] !== undefined) continue;
    bytes.fill(NUL, found.index, found.index + found[0].length);
    isChanged = true;
  }
  return { length, isChanged };
}

function findUnfinished(text: string): number {
  const start = Math.max(text.length - LONGEST_SEQUENCE, 0);
  const found = UNFINISHED.exec(text.slice(start));
  return found === null ? text.length : start + found.index;
}

/** Returns the text of a log's bytes: without NUL, and with U+FFFD for invalid UTF-8. The same bytes always give the same result. */
export function toReadable(bytes: Buffer): Buffer {
  const kept = bytes.includes(NUL) ? bytes.filter(byte => byte !== NUL) : bytes;
  return isUtf8(kept)
    ? Buffer.from(kept.buffer, kept.byteOffset, kept.length)
    : Buffer.from(Buffer.from(kept).toString());
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
