/** Looks a variable up; undefined if nothing sets it. */
export type Lookup = (name: string) => string | undefined;

/** Gets the name of a variable that nothing sets; undefined for one that is not to be shown. */
export type OnUnset = (name: string | undefined) => void;

/** Thrown for a text that can't be interpolated. The message names variables, never values. */
export class InterpolationError extends Error {
  override name = 'InterpolationError';
}

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const OPERATOR = /:?[-+?]/y;
/** Depth of defaults in defaults. */
const MAX_DEPTH = 20;
/** The most characters of one value: a variable of variables of variables grows fast. */
const MAX_LENGTH = 1024 * 1024;

/**
 * Replaces the variables of a text as compose does: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
 * `${NAME:?error}`, `${NAME?error}`, `${NAME:+other}`, `${NAME+other}`, and `$$` for a literal `$`. A `$` before anything
 * else stays. A variable that nothing sets is empty; `onUnset` gets its name, or undefined if the name can be a part of a
 * password: `a$bc`. Throws {@link InterpolationError}.
 */
export function interpolate(text: string, lookup: Lookup, onUnset?: OnUnset, depth = 0): string {
  if (!text.includes('$')) return text;
  if (depth > MAX_DEPTH) throw new InterpolationError('A variable has too many nested defaults');
  const findLastBrace = createBraceFinder(text);
  let result = '';
  const add = (part: string) => {
    result += part;
    if (result.length > MAX_LENGTH)
      throw new InterpolationError(`A value is longer than ${MAX_LENGTH} characters once its variables are replaced`);
  };
  const read = (name: string, isClear = true) => {
    const value = lookup(name);
    if (value === undefined) onUnset?.(isClear ? name : undefined);
    return value ?? '';
  };
  for (let index = 0; index < text.length; ) {
    const dollar = text.indexOf('$', index);
    if (dollar < 0) {
      add(text.slice(index));
      break;
    }
    add(text.slice(index, dollar));
    const next = dollar + 1;
    const isBraced = text[next] === '{';
    const name = matchAt(NAME, text, isBraced ? next + 1 : next);
    if (!isBraced) {
      add(name === undefined ? '$' : read(name, text === `$${name}`));
      index = name === undefined ? next + (text[next] === '$' ? 1 : 0) : next + name.length;
      continue;
    }
    const after = next + 1 + (name?.length ?? 0);
    if (name !== undefined && text[after] === '}') {
      add(read(name));
      index = after + 1;
      continue;
    }
    const operator = name === undefined ? undefined : matchAt(OPERATOR, text, after);
    const last = findLastBrace(after);
    if (name === undefined || operator === undefined || last < 0) throw new InterpolationError(INVALID);
    const end = closingBrace(text, next, last) ?? last;
    const operand = text.slice(after + operator.length, end);
    add(replace(name, operator, operand, lookup, () => interpolate(operand, lookup, onUnset, depth + 1)));
    index = end + 1;
  }
  return result;
}

const INVALID =
  'A variable in braces is not a name, or a name with ":-", ":?" or ":+" and a text. Write "$$" for a literal "$"';

function replace(name: string, operator: string, operand: string, lookup: Lookup, expand: () => string): string {
  const value = lookup(name);
  const isSet = value !== undefined && (value !== '' || !operator.startsWith(':'));
  switch (operator.at(-1)) {
    case '-':
      return isSet ? value : expand();
    case '+':
      return isSet ? expand() : '';
    default: {
      if (isSet) return value;
      // The author's own words, unless they are made of values.
      const reason = operand === '' || operand.includes('$') ? '' : `: ${operand}`;
      throw new InterpolationError(`The variable ${name} is required and not set${reason}`);
    }
  }
}

function matchAt(pattern: RegExp, text: string, index: number): string | undefined {
  pattern.lastIndex = index;
  return pattern.exec(text)?.[0];
}

/** Returns a function that finds the last `}` of the line that holds an index; -1 if it is not behind it. */
function createBraceFinder(text: string): (index: number) => number {
  let end = -1;
  let last = -1;
  return index => {
    if (index >= end) {
      const newline = text.indexOf('\n', index);
      end = newline < 0 ? text.length : newline;
      last = text.lastIndexOf('}', end - 1);
    }
    return last >= index ? last : -1;
  };
}

/**
 * Returns the index of the brace that closes the one at `open`; undefined if none up to `last` does. As in compose, the
 * character after an opening brace counts as text, and any brace can nest.
 */
function closingBrace(text: string, open: number, last: number): number | undefined {
  let nested = 0;
  for (let index = open; index <= last; index++) {
    if (text[index] === '}') {
      nested--;
      if (nested === 0) return index;
    } else if (text[index] === '{') {
      nested++;
      index++;
    }
  }
  return undefined;
}
