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

const KEY = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*([=:]?)[ \t]*/;

/**
 * Reads the text of an env file into values, as compose does: comments, `export`, quotes, values over several lines, and
 * variables of the same file or of `lookup`. A name without a value gets the value of `lookup`, if there is one. Throws
 * {@link EnvTextError}; its message has no text of the file.
 */
export function readEnvText(text: string, lookup: Lookup, onUnset?: (name: string) => void): Map<string, string> {
  const values = new Map<string, string>();
  const find: Lookup = name => lookup(name) ?? values.get(name);
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index] ?? '';
    if (/^[ \t]*(#|$)/.test(line)) continue;
    const number = index + 1;
    const [head = '', name = '', separator = ''] = KEY.exec(line) ?? [];
    if (name === '') throw new EnvTextError(number, 'The line does not begin with the name of a variable');
    let rest = line.slice(head.length);
    if (separator === '') {
      if (rest !== '') throw new EnvTextError(number, `The name ${name} is not followed by "="`);
      const inherited = lookup(name);
      if (inherited !== undefined) values.set(name, inherited);
      continue;
    }
    const quote = /^["']/.exec(rest)?.[0];
    if (quote !== undefined) {
      while (closingQuote(rest) < 0 && index + 1 < lines.length) rest += `\n${lines[++index]}`;
      const end = closingQuote(rest);
      if (end < 0) throw new EnvTextError(number, `The value of ${name} has no closing quote`);
      if (!/^[ \t]*(#.*)?$/.test(rest.slice(end + 1)))
        throw new EnvTextError(number, `The value of ${name} continues after its closing quote`);
      rest = rest.slice(1, end);
    } else {
      rest = rest.replace(/ #.*$/, '').trim();
    }
    try {
      const isLiteral = quote === "'";
      const raw = quote === '"' ? unescapeQuoted(rest) : rest;
      values.set(name, isLiteral ? raw : interpolate(raw, find, onUnset));
    } catch (error) {
      if (!(error instanceof InterpolationError)) throw error;
      throw new EnvTextError(number, error.message);
    }
  }
  return values;
}

/** Reads a file with `format: raw`: everything after `=` is the value. Throws {@link EnvTextError}. */
export function readRawEnvText(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^[ \t]*(#|$)/.test(line)) continue;
    const [, name, value = ''] = /^[ \t]*([A-Za-z_][A-Za-z0-9_.-]*)=(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new EnvTextError(index + 1, 'The line is not NAME=value');
    values.set(name, value);
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

/** Returns the index of the quote that ends a text which begins with it; -1 if there is none. */
function closingQuote(text: string): number {
  for (let index = 1; index < text.length; index++) {
    if (text[index] === '\\') index++;
    else if (text[index] === text[0]) return index;
  }
  return -1;
}

const ESCAPES: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** Replaces the escapes of a value in double quotes. `\$` becomes `$$`, which stays a literal `$`. */
function unescapeQuoted(text: string): string {
  return text.replace(/\\([abfnrtv$"\\])/g, (_, char: string) => (char === '$' ? '$$' : (ESCAPES[char] ?? char)));
}
