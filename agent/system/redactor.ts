/** Characters; shorter values would be found everywhere. */
const SHORTEST_SECRET = 6;
/** Bytes; of a longer value only the start is searched for. */
const LONGEST_NEEDLE = 8 * 1024;
/** Characters; longer lines of a secret are searched for on their own, because programs print it line by line. */
const SHORTEST_LINE = 16;

const STAR = 0x2a;

/** Byte offsets; `to` is not included. */
export type Range = [from: number, to: number];

/**
 * Redacts secrets in output and events: as they are, JSON-escaped, URL-encoded, and in base64 at each of its three
 * alignments. Each byte of a secret becomes a star, so that offsets in files stay valid.
 */
export class Redactor {
  /** Needles by their first two bytes. */
  readonly #needles = new Map<number, Buffer[]>();
  /** 1 if a needle starts with these two bytes, or with this byte. */
  readonly #pairs = new Uint8Array(65_536);
  readonly #firsts = new Uint8Array(256);
  readonly #known = new Set<string>();

  /** True if there are no secrets to search for. */
  get isIdle(): boolean {
    return this.#known.size === 0;
  }

  /** Adds a secret. Ignores one that is too short. */
  add(value: string): void {
    for (const form of encodingsOf(value)) this.#addNeedle(form);
  }

  /** Returns the text with its secrets redacted. */
  text(text: string): string {
    if (this.isIdle) return text;
    const bytes = Buffer.from(text);
    this.cover(bytes, true);
    return bytes.toString();
  }

  /** Returns the value with every text in it redacted, except for the keys of objects. */
  all<T>(value: T): T {
    if (this.isIdle) return value;
    if (typeof value === 'string') return this.text(value) as T;
    if (Array.isArray(value)) return value.map(element => this.all(element)) as T;
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, this.all(member)])) as T;
  }

  /**
   * Overwrites the secrets in `bytes`. Unless this is the end, `length` stops before a possible start of a secret; the bytes
   * from there on are untouched, and must come again with the bytes that follow.
   */
  cover(bytes: Buffer, isEnd: boolean): { length: number; covered: Range[] } {
    const covered: Range[] = [];
    if (this.isIdle) return { length: bytes.length, covered };
    let length = bytes.length;
    for (let offset = 0; offset < bytes.length; offset++) {
      const first = bytes[offset] ?? 0;
      if (this.#firsts[first] === 0) continue;
      if (offset + 1 < bytes.length && this.#pairs[(first << 8) | (bytes[offset + 1] ?? 0)] === 0) continue;
      const found = this.#matchAt(bytes, offset, isEnd);
      if (found === 'open') {
        length = offset;
        break;
      }
      if (found > 0) addRange(covered, [offset, offset + found]);
    }
    const last = covered.at(-1);
    // A secret that overlaps the start of another comes again as a whole, unless it would hold back everything.
    if (last && last[1] > length && last[0] > 0) {
      length = last[0];
      covered.pop();
    }
    for (const [from, to] of covered) bytes.fill(STAR, from, to);
    return { length, covered };
  }

  /** Returns the length of the longest secret at an offset, 0 for none, `open` if that depends on bytes to come. */
  #matchAt(bytes: Buffer, offset: number, isEnd: boolean): number | 'open' {
    const left = bytes.length - offset;
    const key = ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
    const candidates = left > 1 ? (this.#needles.get(key) ?? []) : this.#startingWith(bytes[offset] ?? 0);
    let longest = 0;
    for (const needle of candidates) {
      const compared = Math.min(needle.length, left);
      if (bytes.compare(needle, 0, compared, offset, offset + compared) !== 0) continue;
      if (compared === needle.length) longest = Math.max(longest, compared);
      else if (!isEnd) return 'open';
    }
    return longest;
  }

  #startingWith(first: number): Buffer[] {
    return [...this.#needles].flatMap(([key, needles]) => (key >> 8 === first ? needles : []));
  }

  #addNeedle(text: string): void {
    const needle = Buffer.from(text).subarray(0, LONGEST_NEEDLE);
    if (this.#known.has(text) || needle.length < SHORTEST_SECRET) return;
    this.#known.add(text);
    const key = ((needle[0] ?? 0) << 8) | (needle[1] ?? 0);
    this.#pairs[key] = 1;
    this.#firsts[key >> 8] = 1;
    const same = this.#needles.get(key);
    if (same) same.push(needle);
    else this.#needles.set(key, [needle]);
  }
}

/** Redacts nothing. */
export const EMPTY_REDACTOR = new Redactor();

function addRange(ranges: Range[], next: Range): void {
  const last = ranges.at(-1);
  if (last && next[0] <= last[1]) last[1] = Math.max(last[1], next[1]);
  else ranges.push(next);
}

/** Returns the ways in which a value is written. */
function encodingsOf(value: string): string[] {
  if ([...value].length < SHORTEST_SECRET) return [];
  const lines = value.split(/[\r\n]+/).map(line => line.trim());
  const longLines = lines.length > 1 ? lines.filter(line => line.length >= SHORTEST_LINE) : [];
  return [value, ...longLines]
    .map(text => text.toWellFormed())
    .flatMap(text => [
      text,
      JSON.stringify(text).slice(1, -1),
      encodeURIComponent(text),
      encodeURIComponent(text).replaceAll('%20', '+'),
      new URLSearchParams({ '': text }).toString().slice(1),
      ...base64FormsOf(Buffer.from(text)),
    ]);
}

/**
 * Returns the base64 characters that depend on the value alone, not on its neighbors: within a longer text, a value starts at
 * one of three positions of a group.
 */
function base64FormsOf(value: Buffer): string[] {
  const shifted = [0, 1, 2].map(before => {
    const text = Buffer.concat([Buffer.alloc(before), value])
      .toString('base64')
      .replaceAll('=', '');
    const isWhole = (before + value.length) % 3 === 0;
    return text.slice([0, 2, 3][before], isWhole ? undefined : -1);
  });
  return shifted.flatMap(text => [text, text.replaceAll('+', '-').replaceAll('/', '_')]);
}
