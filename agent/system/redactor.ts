import { toPlainText } from '../../protocol/plain-text.ts';
import { ESCAPE_KINDS } from './escapes.ts';
import { needlesOf, type Secret } from './secret-forms.ts';
import { SecretMatcher } from './secret-matcher.ts';
import { type Range, TextView } from './text-view.ts';

const STAR = 0x2a;

/** Bytes; so many are never held back, whatever may follow. */
const MOST_HELD_BACK = 48 * 1024;

/** Depth of escapes: a value may be encoded in an encoded text. */
const MAX_DECODINGS = 2;

/** Tells if a value is one of the agent's own words. */
export type IsOwnWord = (value: string) => boolean;

/**
 * Redacts secrets in texts of others and in the agent's own sentences: as they are, JSON-escaped, URL-encoded, in HTML, in
 * base64 and in hex. Each byte of a secret becomes a star, so that offsets in files stay valid.
 */
export class Redactor {
  readonly #all = new SecretMatcher();
  /** Without the values that are words of the agent: in its sentences these say nothing about a secret. */
  readonly #inSentences = new SecretMatcher();
  readonly #isOwnWord: IsOwnWord;

  constructor(isOwnWord: IsOwnWord = () => false) {
    this.#isOwnWord = isOwnWord;
  }

  /** Adds a secret. Ignores one that is too short. */
  add(secret: string | Secret): void {
    const { value, ...rest } = typeof secret === 'string' ? { value: secret } : secret;
    const isOwn = this.#isOwnWord(value);
    for (const needle of needlesOf({ value, ...rest })) {
      this.#all.add(needle);
      if (!isOwn) this.#inSentences.add(needle);
    }
  }

  /** Returns a text of a program or a file, as plain text and with its secrets redacted. */
  text(text: string): string {
    return redact(text, this.#all);
  }

  /** Returns a sentence of the agent with the values in it redacted. Its own words stay. */
  sentence(text: string): string {
    return redact(text, this.#inSentences);
  }

  /** Returns the value with every text in it redacted as a sentence, except for the keys of objects. */
  sentences<T>(value: T): T {
    if (typeof value === 'string') return this.sentence(value) as T;
    if (Array.isArray(value)) return value.map(element => this.sentences(element)) as T;
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, this.sentences(member)])) as T;
  }

  /**
   * Overwrites the secrets in `bytes`, which have no hidden text. Unless this is the end, `length` stops before a possible
   * start of a secret: the bytes from there on must come again with the bytes that follow. `before`: the byte before them.
   */
  cover(bytes: Buffer, isEnd: boolean, before?: number): { length: number; covered: Range[] } {
    return cover(bytes, isEnd, before, this.#all);
  }
}

/** Redacts nothing. */
export const EMPTY_REDACTOR = new Redactor();

function redact(text: string, matcher: SecretMatcher): string {
  const plain = toPlainText(text);
  if (matcher.isEmpty) return plain;
  const bytes = Buffer.from(plain);
  const { covered } = cover(bytes, true, undefined, matcher);
  return covered.length === 0 ? plain : bytes.toString();
}

function cover(
  bytes: Buffer,
  isEnd: boolean,
  before: number | undefined,
  matcher: SecretMatcher,
): { length: number; covered: Range[] } {
  if (matcher.isEmpty) return { length: bytes.length, covered: [] };
  const found: Range[] = [];
  let length = bytes.length;
  // Kinds of escapes that do not contain each other give the same text in any order.
  const search = (view: TextView, depth: number, last: number) => {
    const hold = (offset: number) => {
      if (offset < view.bytes.length) length = Math.min(length, view.startOf(offset));
    };
    hold(matcher.scan(view.bytes, isEnd, before, range => found.push(view.sourceOf(range))));
    for (const [index, kind] of depth < MAX_DECODINGS ? ESCAPE_KINDS.entries() : []) {
      if (index <= last && !view.hasDecoded(kind.mark)) continue;
      const decoded = view.decode(kind, isEnd);
      hold(decoded.open);
      if (decoded.view) search(decoded.view, depth + 1, index);
    }
  };
  search(TextView.of(bytes), 0, -1);
  const covered = mergeRanges(found);
  // A secret that overlaps the start of another comes again as a whole.
  for (const [from, to] of covered.toReversed()) if (to > length) length = Math.min(length, from);
  if (length === 0 && bytes.length >= MOST_HELD_BACK) {
    covered.splice(0, covered.length, [0, bytes.length]);
    length = bytes.length;
  }
  const kept = covered.filter(([from]) => from < length);
  for (const [from, to] of kept) bytes.fill(STAR, from, to);
  return { length, covered: kept };
}

/** Returns the ranges in their order, those that overlap or touch as one. */
function mergeRanges(ranges: Range[]): Range[] {
  const merged: Range[] = [];
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
