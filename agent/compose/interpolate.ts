/** Looks a variable up; undefined if nothing sets it. */
export type Lookup = (name: string) => string | undefined;

/** Thrown for a text that can't be interpolated. The message names variables, never values. */
export class InterpolationError extends Error {
  override name = 'InterpolationError';
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*/;
/** Depth of defaults in defaults. */
const MAX_DEPTH = 20;

/**
 * Replaces the variables of a text as compose does: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
 * `${NAME:?error}`, `${NAME?error}`, `${NAME:+other}`, `${NAME+other}`, and `$$` for a literal `$`. A variable that nothing
 * sets is empty; `onUnset` gets its name. A `$` without a name stays.
 * Throws {@link InterpolationError}.
 */
export function interpolate(text: string, lookup: Lookup, onUnset?: (name: string) => void, depth = 0): string {
  if (!text.includes('$')) return text;
  if (depth > MAX_DEPTH) throw new InterpolationError('A variable has too many nested defaults');
  let result = '';
  for (let index = 0; index < text.length; ) {
    const dollar = text.indexOf('$', index);
    if (dollar < 0) return result + text.slice(index);
    result += text.slice(index, dollar);
    const rest = text.slice(dollar + 1);
    const [bare] = NAME.exec(rest) ?? [];
    if (rest.startsWith('$')) {
      result += '$';
      index = dollar + 2;
    } else if (bare !== undefined) {
      const value = lookup(bare);
      if (value === undefined) onUnset?.(bare);
      result += value ?? '';
      index = dollar + 1 + bare.length;
    } else if (rest.startsWith('{')) {
      const end = closingBrace(rest);
      if (end < 0) throw new InterpolationError('A variable has no closing brace');
      const expand = (inner: string) => interpolate(inner, lookup, onUnset, depth + 1);
      result += replaceBraced(rest.slice(1, end), lookup, onUnset, expand);
      index = dollar + 1 + end + 1;
    } else {
      result += '$';
      index = dollar + 1;
    }
  }
  return result;
}

/** Returns the index of the brace that closes the first one; -1 if there is none. */
function closingBrace(text: string): number {
  let open = 0;
  for (let index = 0; index < text.length; index++) {
    if (text[index] === '}') {
      open--;
      if (open === 0) return index;
    } else if (text[index] === '{' && (index === 0 || text[index - 1] === '$')) open++;
  }
  return -1;
}

function replaceBraced(
  inner: string,
  lookup: Lookup,
  onUnset: ((name: string) => void) | undefined,
  expandText: (text: string) => string,
): string {
  const [name] = NAME.exec(inner) ?? [];
  const [, operator, operand = ''] = /^(:?[-+?])([\s\S]*)$/.exec(inner.slice(name?.length ?? 0)) ?? [];
  if (name === undefined || (operator === undefined && inner !== name))
    throw new InterpolationError('A variable in braces is not a name, or a name with ":-", ":?" or ":+" and a text');
  const value = lookup(name);
  const isSet = operator?.startsWith(':') ? value !== undefined && value !== '' : value !== undefined;
  const expand = () => expandText(operand);
  switch (operator?.at(-1)) {
    case '-':
      return isSet ? (value ?? '') : expand();
    case '+':
      return isSet ? expand() : '';
    case '?':
      // The author's own words, unless they are made of values.
      if (!isSet)
        throw new InterpolationError(
          `The variable ${name} is required and not set${operand === '' || operand.includes('$') ? '' : `: ${operand}`}`,
        );
      return value ?? '';
    default:
      if (value === undefined) onUnset?.(name);
      return value ?? '';
  }
}
