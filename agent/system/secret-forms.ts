import { toPlainText } from '../../protocol/plain-text.ts';
import type { Needle } from './secret-matcher.ts';

/** Characters; a shorter value would be found everywhere, and one below {@link SHORTEST_PART} counts only as a whole word. */
const SHORTEST_SECRET = 4;
const SHORTEST_PART = 6;
/** Bytes; a longer value is searched for in pieces. */
const LONGEST_NEEDLE = 4 * 1024;
/** Characters; longer lines of a secret are searched for on their own, because programs print it line by line. */
const SHORTEST_LINE = 16;
/** Bytes; the hexadecimal form of a shorter value could be a number. */
const SHORTEST_HEX = 8;

/** A secret, and how it is searched for. */
export interface Secret {
  value: string;
  /** The variables that have it. */
  names?: readonly string[];
  /** It is also a public name, such as the stack's: a secret only next to its variable's name, or in a URL's user info. */
  isName?: boolean;
}

/**
 * Returns what is searched for: the value as it is, in base64 at each of its three alignments, and in hex. Other encodings
 * are decoded in the text.
 */
export function needlesOf({ value, names = [], isName = false }: Secret): Needle[] {
  const plain = toPlainText(value.toWellFormed());
  if ([...plain].length < SHORTEST_SECRET) return [];
  if (isName) return plainFormsOf(plain).flatMap(form => contextsOf(form, names));
  const isWord = [...plain].length < SHORTEST_PART;
  const lines = plain.split(/[\r\n]+/).map(line => line.trim());
  const longLines = lines.length > 1 ? lines.filter(line => line.length >= SHORTEST_LINE) : [];
  return [plain, ...longLines].flatMap(text => [
    ...plainFormsOf(text).flatMap(form => cut(form).map(bytes => ({ bytes, lead: 0, trail: 0, isWord }))),
    ...(isWord ? [] : encodedFormsOf(Buffer.from(text))).flatMap(form =>
      cut(form).map(bytes => ({ bytes, lead: 0, trail: 0, isWord: false })),
    ),
  ]);
}

/** Returns the value as it is, and as forms and shells write it. */
function plainFormsOf(value: string): string[] {
  const forms = [value, value.replaceAll(' ', '+'), value.replaceAll("'", "'''")];
  return [...new Set(forms)].filter(form => [...form].length >= SHORTEST_SECRET);
}

function encodedFormsOf(value: Buffer): string[] {
  const hex = value.length < SHORTEST_HEX ? [] : [value.toString('hex'), value.toString('hex').toUpperCase()];
  return [...base64FormsOf(value), ...hex].filter(form => form.length >= SHORTEST_PART);
}

/** Returns the form in pieces of a bounded length. A last piece that is too short overlaps the one before it. */
function cut(form: string): Buffer[] {
  const bytes = Buffer.from(form);
  const pieces: Buffer[] = [];
  for (let from = 0; from < bytes.length; from += LONGEST_NEEDLE) {
    const start = from === 0 ? 0 : Math.min(from, bytes.length - SHORTEST_LINE);
    pieces.push(bytes.subarray(start, from + LONGEST_NEEDLE));
  }
  return pieces;
}

/** Returns the value where a variable's name, or a user's name in a URL, says that it is a secret. */
function contextsOf(value: string, names: readonly string[]): Needle[] {
  const assigned = [...names, 'password'].flatMap(name =>
    ['=', '="', "='", ': ', ': "', '":"', '": "'].map(between => `${name}${between}`),
  );
  const length = Buffer.byteLength(value);
  return [
    { bytes: Buffer.from(`:${value}@`), lead: 1, trail: 1, isWord: false },
    ...assigned.map(before => {
      const bytes = Buffer.from(`${before}${value}`);
      return { bytes, lead: bytes.length - length, trail: 0, isWord: true };
    }),
  ];
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
