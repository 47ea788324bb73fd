import { InterpolationError, interpolate, type Lookup } from './interpolate.ts';

/** Thrown for a line that compose would not read, or would read in another way. `line` is counted from 1. */
export class EnvTextError extends Error {
  override name = 'EnvTextError';
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

/** White space as compose's parser sees it: within a line, and anywhere. */
const BLANK = String.raw`[\t\v\f\r \u0085\u00a0]`;
const SPACE = String.raw`[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;

const SPACES_AND_COMMENTS = new RegExp(`(?:${SPACE}+|#[^\\n]*(?:\\n|$))*`, 'y');
const HEAD = new RegExp(
  `(?:export(?=[\\t\\n\\f\\r ])${BLANK}*)?([A-Za-z0-9_.\\-[\\]]*)${BLANK}*(?:([=:])${BLANK}*|\\n|$)`,
  'y',
);
const ONE_SPACE = new RegExp(`^${SPACE}$`);
/** The most characters of all values of a file together. */
const MAX_LENGTH = 4 * 1024 * 1024;

/**
 * Reads the text of an env file into values, as compose does: comments, `export`, quotes, values over several lines, and
 * variables of `lookup`, of the same file, or of `earlier` (the values of the files before it). A name without a value gets
 * the value of `lookup`, if there is one. `onChanged` gets the name and line of a value that has a variable which nothing
 * sets. Throws {@link EnvTextError}; its message has no text of the file.
 */
export function readEnvText(
  text: string,
  lookup: Lookup,
  onChanged?: (name: string, line: number) => void,
  earlier: ReadonlyMap<string, string> = new Map(),
): Map<string, string> {
  const values = new Map<string, string>();
  const find: Lookup = name => lookup(name) ?? values.get(name) ?? earlier.get(name);
  let length = 0;
  for (let index = text.startsWith('\ufeff') ? 1 : 0; ; ) {
    index += matchAt(SPACES_AND_COMMENTS, text, index)?.[0].length ?? 0;
    if (index >= text.length) return values;
    const start = index;
    const fail = (message: string) => new EnvTextError(lineAt(text, start), message);
    const [head, name = '', separator] = matchAt(HEAD, text, index) ?? [];
    if (head === undefined || (name === '' && separator !== undefined))
      throw fail('The line does not begin with the name of a variable and "="');
    index += head.length;
    if (separator === undefined) {
      const inherited = lookup(name);
      if (inherited !== undefined && name !== '') values.set(name, inherited);
      continue;
    }
    const { raw, isLiteral, end } = readValue(text, index, () => fail(`The value of ${name} has no closing quote`));
    index = end;
    try {
      const value = isLiteral ? raw : interpolate(raw, find, () => onChanged?.(name, lineAt(text, start)));
      length += value.length;
      if (length > MAX_LENGTH) throw fail(`The values are longer than ${MAX_LENGTH} characters`);
      values.set(name, value);
    } catch (error) {
      if (error instanceof InterpolationError) throw fail(error.message);
      throw error;
    }
  }
}

/** Reads the value that begins at `start`. `end` is the index behind it. */
function readValue(
  text: string,
  start: number,
  unclosed: () => Error,
): { raw: string; isLiteral: boolean; end: number } {
  const quote = text[start];
  if (quote !== '"' && quote !== "'") {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline + 1;
    const line = text.slice(start, newline < 0 ? undefined : newline);
    const comment = line.indexOf(' #');
    return { raw: trimEnd(comment < 0 ? line : line.slice(0, comment)), isLiteral: false, end };
  }
  for (let index = start + 1; index < text.length; index++) {
    if (text[index] === '\\') index++;
    else if (text[index] === quote) {
      // An escaped quote is a quote. Every other escape is still one.
      const inner = text.slice(start + 1, index).replace(/\\([\s\S])/g, (pair, char) => (char === quote ? char : pair));
      const raw = quote === '"' ? unescapeQuoted(inner) : inner;
      return { raw, isLiteral: quote === "'", end: index + 1 };
    }
  }
  throw unclosed();
}

/** Reads a file with `format: raw`: everything after `=` is the value. Throws {@link EnvTextError}. */
export function readRawEnvText(text: string, lookup: Lookup = () => undefined): Map<string, string> {
  const values = new Map<string, string>();
  for (const [index, line] of text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .entries()) {
    const [, name = '', separator, value = ''] = /^[ \t]*([^=#][^=]*)?(=?)([\s\S]*)$/.exec(line) ?? [];
    if (name === '' && separator === '') continue;
    if (!/^[A-Za-z0-9_.\-[\]]+$/.test(name))
      throw new EnvTextError(index + 1, 'The line does not begin with the name of a variable and "="');
    const found = separator === '' ? lookup(name) : value;
    if (found !== undefined) values.set(name, found);
  }
  return values;
}

/** Writes values so that every version of compose reads them literally. */
export function writeEnvText(values: ReadonlyMap<string, string>): string {
  return [...values].map(([name, value]) => `${name}=${quoteEnvValue(value)}\n`).join('');
}

function quoteEnvValue(value: string): string {
  const escaped = value
    .replace(/["\\$]/g, '\\$&')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r');
  return `"${escaped}"`;
}

function matchAt(pattern: RegExp, text: string, index: number): RegExpExecArray | null {
  pattern.lastIndex = index;
  return pattern.exec(text);
}

/** Removes white space at the end, also from a long line of it, in time that grows with its length. */
function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && ONE_SPACE.test(text[end - 1] ?? '')) end--;
  return text.slice(0, end);
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}

const ESCAPES: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** Replaces the escapes of a value in double quotes. `\$` becomes `$$`, which stays a literal `$`. */
function unescapeQuoted(text: string): string {
  return text.replace(/\\(?:([abcfnrtv$"\\])|0(\d{0,3}))/g, (whole, char: string | undefined, octal = '') => {
    if (char === '$') return '$$';
    if (char !== undefined) return ESCAPES[char] ?? (char === 'c' ? whole : char);
    return /^[0-3][0-7]{2}$/.test(octal) ? String.fromCharCode(Number.parseInt(octal, 8)) : whole;
  });
}
