import { COLOR_SEQUENCE } from '../../protocol/plain-text.ts';
import type { EscapeKind } from './escapes.ts';

/** Byte offsets; `to` is not included. */
export type Range = [from: number, to: number];

/** A part of a view. `width` bytes of the source became `length` bytes: the same ones if the numbers are equal. */
interface Piece {
  at: number;
  length: number;
  source: number;
  width: number;
}

/** Bytes as a reader or a decoder gets them, and the bytes from which each of them was made. */
export class TextView {
  readonly bytes: Buffer;
  /** Absent for the original bytes. */
  readonly #made: ViewBuilder | undefined;

  private constructor(bytes: Buffer, made?: ViewBuilder) {
    this.bytes = bytes;
    this.#made = made;
  }

  /** Returns the bytes without the NULs and the colors in them. */
  static of(bytes: Buffer): TextView {
    const whole = new TextView(bytes);
    if (!bytes.includes(0) && !bytes.includes(0x1b)) return whole;
    const builder = new ViewBuilder(whole);
    let end = 0;
    for (const found of bytes.toString('latin1').matchAll(SKIPPED)) {
      builder.copy(end, found.index);
      end = found.index + found[0].length;
    }
    builder.copy(end, bytes.length);
    return new TextView(builder.bytes, builder);
  }

  /**
   * Returns the view in which the escapes of one kind are decoded; undefined if it has none. Unless this is the end, an escape
   * that the end cuts is left out: `open` is its offset.
   */
  decode({ mark, read }: EscapeKind, isEnd: boolean): { view: TextView | undefined; open: number } {
    const { bytes } = this;
    let builder: ViewBuilder | undefined;
    let end = 0;
    let open = bytes.length;
    for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, Math.max(at + 1, end))) {
      const found = read(bytes, at);
      if (found === undefined || (found === 'cut' && isEnd)) continue;
      builder ??= new ViewBuilder(this);
      if (found === 'cut') {
        open = at;
        break;
      }
      builder.copy(end, at);
      builder.add(found.decoded, at, at + found.width);
      end = at + found.width;
    }
    builder?.copy(end, open);
    return { view: builder && new TextView(builder.bytes, builder), open };
  }

  /** Returns true if an escape stood for this byte. */
  hasDecoded(byte: number): boolean {
    return this.#made?.decoded.has(byte) ?? false;
  }

  /** Returns the offset in the original bytes. */
  startOf(offset: number): number {
    return this.#made ? this.#made.from.startOf(this.#locate(offset)[0]) : offset;
  }

  /** Returns the offsets in the original bytes. */
  sourceOf([from, to]: Range): Range {
    if (!this.#made) return [from, to];
    return this.#made.from.sourceOf([this.#locate(from)[0], this.#locate(to - 1)[1]]);
  }

  /** Returns the offsets before and after one byte in the view that this one is made from. */
  #locate(offset: number): Range {
    const pieces = this.#made?.pieces ?? [];
    let low = 0;
    let high = pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((pieces[middle]?.at ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    const { at, length, source, width } = pieces[low - 1] ?? { at: 0, length: 0, source: 0, width: 0 };
    if (length !== width) return [source, source + width];
    return [source + offset - at, source + offset - at + 1];
  }
}

const SKIPPED = new RegExp(`\\x00+|${COLOR_SEQUENCE}`, 'g');

/** Builds a view with at most as many bytes as the one that it is made from. */
class ViewBuilder {
  readonly from: TextView;
  readonly pieces: Piece[] = [];
  /** The bytes that escapes stood for. */
  readonly decoded = new Set<number>();
  readonly #bytes: Buffer;
  #length = 0;

  constructor(from: TextView) {
    this.from = from;
    this.#bytes = Buffer.allocUnsafe(from.bytes.length);
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  copy(from: number, to: number): void {
    if (from === to) return;
    this.pieces.push({ at: this.#length, length: to - from, source: from, width: to - from });
    this.#length += this.from.bytes.copy(this.#bytes, this.#length, from, to);
  }

  add(decoded: readonly number[], from: number, to: number): void {
    this.pieces.push({ at: this.#length, length: decoded.length, source: from, width: to - from });
    for (const byte of decoded) {
      this.decoded.add(byte);
      this.#bytes[this.#length++] = byte;
    }
  }
}
