/** Shorter values would be found everywhere. */
export const SHORTEST_SECRET = 6;
/** A longer one is looked for by its beginning. In bytes. */
const LONGEST_NEEDLE = 8 * 1024;
/** Lines of a secret of several lines that are looked for by themselves: programs print it line by line. */
const SHORTEST_LINE = 16;

const STAR = 0x2a;

/** From a byte of a text up to, but not including, another. */
export type Range = [from: number, to: number];

/**
 * Finds secrets in what is told: as they are, JSON-escaped, URL-encoded, and in base64 at each of its three alignments. What is
 * found becomes stars, byte for byte, so that places in files stay what they are.
 */
export class Redactor {
  /** Needles by their first two bytes. */
  readonly #needles = new Map<number, Buffer[]>();
  /** Whether a needle begins with these two bytes, and with this one. */
  readonly #pairs = new Uint8Array(65_536);
  readonly #firsts = new Uint8Array(256);
  readonly #known = new Set<string>();

  /** Whether there is anything to look for. */
  get isIdle(): boolean {
    return this.#known.size === 0;
  }

  /** A value that nobody is told from now on. Too short ones are not taken. */
  add(value: string): void {
    for (const form of encodingsOf(value)) this.#addNeedle(form);
  }

  /** The text with stars where secrets stand. */
  text(text: string): string {
    if (this.isIdle) return text;
    const bytes = Buffer.from(text);
    this.cover(bytes, true);
    return bytes.toString();
  }

  /** A value with every text in it redacted, but for the keys of objects. */
  all<T>(value: T): T {
    if (this.isIdle) return value;
    if (typeof value === 'string') return this.text(value) as T;
    if (Array.isArray(value)) return value.map(one => this.all(one)) as T;
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, this.all(one)])) as T;
  }

  /**
   * Puts stars over the secrets in `bytes`. Where more may follow, `length` ends before what may be the beginning of a
   * secret; what lies behind it is untouched, and to be shown again with what follows.
   */
  cover(bytes: Buffer, isEnd: boolean): { length: number; covered: Range[] } {
    const covered: Range[] = [];
    if (this.isIdle) return { length: bytes.length, covered };
    let length = bytes.length;
    for (let at = 0; at < bytes.length; at++) {
      const first = bytes[at] ?? 0;
      if (this.#firsts[first] === 0) continue;
      if (at + 1 < bytes.length && this.#pairs[(first << 8) | (bytes[at + 1] ?? 0)] === 0) continue;
      const found = this.#at(bytes, at, isEnd);
      if (found === 'open') {
        length = at;
        break;
      }
      if (found > 0) join(covered, [at, at + found]);
    }
    const last = covered.at(-1);
    // A secret that overlaps the beginning of another is shown again as a whole, if there is anything to tell before it.
    if (last && last[1] > length && last[0] > 0) {
      length = last[0];
      covered.pop();
    }
    for (const [from, to] of covered) bytes.fill(STAR, from, to);
    return { length, covered };
  }

  /** How long the longest secret is that begins there; 0 for none; `open` where that can't be said yet. */
  #at(bytes: Buffer, at: number, isEnd: boolean): number | 'open' {
    const left = bytes.length - at;
    const key = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    const candidates = left > 1 ? (this.#needles.get(key) ?? []) : this.#beginningWith(bytes[at] ?? 0);
    let longest = 0;
    for (const needle of candidates) {
      const seen = Math.min(needle.length, left);
      if (bytes.compare(needle, 0, seen, at, at + seen) !== 0) continue;
      if (seen === needle.length) longest = Math.max(longest, seen);
      else if (!isEnd) return 'open';
    }
    return longest;
  }

  #beginningWith(first: number): Buffer[] {
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

function join(ranges: Range[], next: Range): void {
  const last = ranges.at(-1);
  if (last && next[0] <= last[1]) last[1] = Math.max(last[1], next[1]);
  else ranges.push(next);
}

/** The ways in which a value is written. */
function encodingsOf(value: string): string[] {
  if ([...value].length < SHORTEST_SECRET) return [];
  const lines = value.split(/[\r\n]+/).map(line => line.trim());
  const pieces = lines.length > 1 ? lines.filter(line => line.length >= SHORTEST_LINE) : [];
  return [value, ...pieces]
    .map(one => one.toWellFormed())
    .flatMap(one => [
      one,
      JSON.stringify(one).slice(1, -1),
      encodeURIComponent(one),
      encodeURIComponent(one).replaceAll('%20', '+'),
      new URLSearchParams({ '': one }).toString().slice(1),
      ...inBase64(Buffer.from(one)),
    ]);
}

/**
 * The letters of base64 that depend on the value alone, whatever stands before and after it: a value within a longer text
 * begins at one of three places of a group.
 */
function inBase64(value: Buffer): string[] {
  const shifted = [0, 1, 2].map(before => {
    const text = Buffer.concat([Buffer.alloc(before), value])
      .toString('base64')
      .replaceAll('=', '');
    const isWhole = (before + value.length) % 3 === 0;
    return text.slice([0, 2, 3][before], isWhole ? undefined : -1);
  });
  return shifted.flatMap(text => [text, text.replaceAll('+', '-').replaceAll('/', '_')]);
}
