import type { Range } from './text-view.ts';

/** Bytes to search for. The first `lead` and the last `trail` of them are context, which is not a part of the secret. */
export interface Needle {
  bytes: Buffer;
  lead: number;
  trail: number;
  /** It counts only as a whole word. */
  isWord: boolean;
}

/** Stands for the byte before the first one. */
const NOTHING = 0x20;

/** Finds needles in bytes, in one pass. */
export class SecretMatcher {
  /** Needles by their first four bytes. */
  readonly #needles = new Map<number, Needle[]>();
  /** 1 if a needle starts with these two bytes, or with this byte. */
  #pairs = new Uint8Array(0);
  readonly #firsts = new Uint8Array(256);
  readonly #known = new Set<string>();

  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  /** Adds a needle of at least four bytes. */
  add(needle: Needle): void {
    const { bytes, lead, trail, isWord } = needle;
    const id = `${lead} ${trail} ${isWord} ${bytes.toString('latin1')}`;
    if (this.#known.has(id)) return;
    this.#known.add(id);
    if (this.#pairs.length === 0) this.#pairs = new Uint8Array(65_536);
    this.#pairs[bytes.readUInt16BE()] = 1;
    this.#firsts[bytes.readUInt8()] = 1;
    const key = bytes.readUInt32BE();
    const same = this.#needles.get(key);
    if (same) same.push(needle);
    else this.#needles.set(key, [needle]);
  }

  /**
   * Calls `found` for each secret. Unless this is the end, returns the first offset where bytes to come may make a needle;
   * otherwise the number of bytes. `before`: the byte before them.
   */
  scan(bytes: Buffer, isEnd: boolean, before: number | undefined, found: (range: Range) => void): number {
    for (let offset = 0; offset < bytes.length; offset++) {
      const first = bytes[offset] ?? 0;
      if (this.#firsts[first] === 0) continue;
      if (offset + 1 < bytes.length && this.#pairs[(first << 8) | (bytes[offset + 1] ?? 0)] === 0) continue;
      if (this.#matchAt(bytes, offset, isEnd, before, found)) return offset;
    }
    return bytes.length;
  }

  /** Returns true if bytes to come decide if a needle is at the offset. */
  #matchAt(
    bytes: Buffer,
    offset: number,
    isEnd: boolean,
    before: number | undefined,
    found: (range: Range) => void,
  ): boolean {
    const left = bytes.length - offset;
    const candidates = left < 4 ? [...this.#needles.values()].flat() : this.#needles.get(bytes.readUInt32BE(offset));
    if (!candidates) return false;
    const startsWord = !isWordByte((offset > 0 ? bytes[offset - 1] : before) ?? NOTHING);
    for (const { bytes: needle, lead, trail, isWord } of candidates) {
      if (isWord && lead === 0 && !startsWord) continue;
      const compared = Math.min(needle.length, left);
      let same = 0;
      while (same < compared && needle[same] === bytes[offset + same]) same++;
      if (same < compared) continue;
      const isCut = compared < needle.length || (isWord && compared === left);
      if (isCut && !isEnd) return true;
      if (compared < needle.length) continue;
      if (isWord && isWordByte(bytes[offset + compared] ?? NOTHING)) continue;
      found([offset + lead, offset + compared - trail]);
    }
    return false;
  }
}

/** A letter or digit of ASCII, or `_`. */
function isWordByte(byte: number): boolean {
  const isDigit = byte >= 0x30 && byte <= 0x39;
  const letter = byte | 0x20;
  return isDigit || (letter >= 0x61 && letter <= 0x7a) || byte === 0x5f;
}
