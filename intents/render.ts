import { z } from 'zod';
import { applyFilters, explainFilterError, FILTERS, type ParamValue, readFilters } from './filters.ts';
import { suggestNearest } from './suggest.ts';

export type { ParamValue };

const ParamPattern = z.string().max(200).refine(isSafePattern, {
  error: 'Expected a regular expression without groups that repeat ("(a+)+"), lookarounds or backreferences',
});

const ParamName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,63}$/, 'Expected a parameter name: lower-case letters, digits and "_"');

/** How a file declares one parameter. */
export const ParamDeclaration = z.union([
  z.strictObject({
    type: z.literal('string'),
    pattern: ParamPattern.optional().describe('The whole value must match this regular expression.'),
    default: z.string().max(1024).optional(),
    required: z.boolean().optional(),
  }),
  z.strictObject({ type: z.literal('number'), default: z.number().optional(), required: z.boolean().optional() }),
  z.strictObject({ type: z.literal('boolean'), default: z.boolean().optional(), required: z.boolean().optional() }),
  z.strictObject({
    type: z.literal('enum'),
    values: z.array(z.string().max(1024)).min(1).max(100),
    default: z.string().optional(),
    required: z.boolean().optional(),
  }),
]);
export type ParamDeclaration = z.infer<typeof ParamDeclaration>;
export const ParamDeclarations = z.record(ParamName, ParamDeclaration);
export type ParamDeclarations = z.infer<typeof ParamDeclarations>;

export interface RenderProblem {
  code: 'unknown-param' | 'missing-param' | 'wrong-param' | 'wrong-filter';
  path: (string | number)[];
  message: string;
  instead: string;
}

/** `params.tag`, and what is done to it: `| default: "latest" | lower`. */
const EXPRESSION =
  /^params\.([a-z][a-z0-9_]*)((?:\s*\|\s*[a-z]+(?:\s*:\s*(?:"[^"{}]*"|'[^'{}]*'|-?\d+(?:\.\d+)?))?)*)$/;
const TEMPLATE = /\{\{\s*(.*?)\s*\}\}/g;
const WHOLE = /^\{\{\s*([^{}]*?)\s*\}\}$/;
const MAX_VALUE = 1024;

/**
 * Puts parameters into scalar values, after parsing, so that a value can never add YAML. `complete: false` checks a file
 * on its own: a parameter that nobody gave stays as it is written, and its path is in `open`.
 */
export function renderTemplates(
  value: Record<string, unknown>,
  declared: ParamDeclarations,
  given: Record<string, ParamValue>,
  complete: boolean,
  at: Date = new Date(),
): { value: Record<string, unknown>; problems: RenderProblem[]; open: Set<string> } {
  const problems: RenderProblem[] = [];
  const open = new Set<string>();
  const values = valuesOf(declared, given, complete, problems, findDefaultedParams(value));

  const one = (expression: string, path: (string | number)[]): ParamValue | undefined => {
    const [, name, filters = ''] = EXPRESSION.exec(expression) ?? [];
    if (name !== undefined && Object.hasOwn(declared, name)) {
      const asked = readFilters(filters);
      const found = applyFilters(values.get(name), asked, at);
      const unknown = asked.find(filter => !FILTERS.includes(filter.name)) ?? found.wrong;
      if (unknown) {
        problems.push({ code: 'wrong-filter', path, ...explainFilterError(unknown) });
        return undefined;
      }
      if (found.value === undefined) open.add(path.join('.'));
      return found.value;
    }
    const near = name === undefined ? undefined : suggestNearest(name, Object.keys(declared));
    problems.push({
      code: 'unknown-param',
      path,
      message: `"{{ ${expression.slice(0, 60)} }}" is not a declared parameter.`,
      instead: near
        ? `Write {{ params.${near} }}.`
        : 'Declare it under "params:" and write {{ params.<name> }}, or with filters {{ params.<name> | default: "text" | lower }}.',
    });
    return undefined;
  };
  const text = (written: string, path: (string | number)[]): ParamValue => {
    const whole = WHOLE.exec(written)?.[1];
    if (whole !== undefined) return one(whole, path) ?? written;
    return written.replaceAll(TEMPLATE, (all, expression: string) => String(one(expression, path) ?? all));
  };
  const walk = (node: unknown, path: (string | number)[]): unknown => {
    if (typeof node === 'string') return node.includes('{{') ? text(node, path) : node;
    if (Array.isArray(node)) return node.map((item, index) => walk(item, [...path, index]));
    if (typeof node !== 'object' || node === null) return node;
    return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, walk(item, [...path, key])]));
  };
  return { value: walk(value, []) as Record<string, unknown>, problems, open };
}

/** Names of parameters that have a default wherever they are used. */
function findDefaultedParams(value: unknown): Set<string> {
  const uses = new Map<string, boolean>();
  const walk = (node: unknown): void => {
    if (typeof node === 'object' && node !== null) for (const item of Object.values(node)) walk(item);
    if (typeof node !== 'string') return;
    for (const [, expression = ''] of node.matchAll(TEMPLATE)) {
      const [, name = '', filters = ''] = EXPRESSION.exec(expression) ?? [];
      const hasDefault = readFilters(filters).some(filter => filter.name === 'default');
      uses.set(name, hasDefault && uses.get(name) !== false);
    }
  };
  walk(value);
  return new Set([...uses].flatMap(([name, hasDefault]) => (hasDefault ? [name] : [])));
}

function valuesOf(
  declared: ParamDeclarations,
  given: Record<string, ParamValue>,
  complete: boolean,
  problems: RenderProblem[],
  optional: ReadonlySet<string>,
): Map<string, ParamValue> {
  const values = new Map<string, ParamValue>();
  for (const [name, declaration] of Object.entries(declared)) {
    const raw = Object.hasOwn(given, name) ? given[name] : declaration.default;
    if (raw === undefined) {
      if (!complete) continue;
      if (declaration.required === false || optional.has(name)) values.set(name, '');
      else {
        problems.push({
          code: 'missing-param',
          path: ['params', name],
          message: `The parameter "${name}" has no value.`,
          instead: `Give it (input "params": ${name}=…), or declare a default.`,
        });
      }
      continue;
    }
    const value = typed(declaration, raw);
    if (value !== undefined) values.set(name, value);
    else {
      problems.push({
        code: 'wrong-param',
        path: ['params', name],
        message: `The parameter "${name}" does not fit its declaration.`,
        instead: `Give ${expectation(declaration)}.`,
      });
    }
  }
  return values;
}

/** The value in the declared type, or undefined where it does not fit. Texts are read as numbers and booleans where these are declared. */
function typed(declaration: ParamDeclaration, raw: ParamValue): ParamValue | undefined {
  const text = String(raw);
  if (text.length > MAX_VALUE || [...text].some(char => char < ' ' || char === '\u007f')) return undefined;
  switch (declaration.type) {
    case 'number':
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : undefined;
    case 'enum':
      return declaration.values.includes(text) ? text : undefined;
    case 'string':
      // A value that is put in must not be read as a template again.
      if (text.includes('{{')) return undefined;
      return declaration.pattern === undefined || new RegExp(`^(?:${declaration.pattern})$`, 'u').test(text)
        ? text
        : undefined;
  }
}

function expectation(declaration: ParamDeclaration): string {
  switch (declaration.type) {
    case 'number':
      return 'a number';
    case 'boolean':
      return 'true or false';
    case 'enum':
      return `one of: ${declaration.values.join(', ')}`;
    case 'string':
      return declaration.pattern === undefined ? 'a text of one line' : `a text that matches ${declaration.pattern}`;
  }
}

/** Patterns come from the repository: only those that can't take exponential time. */
function isSafePattern(pattern: string): boolean {
  if (/\(\?[=!<]|\\[1-9k]/.test(pattern)) return false;
  if (/[+*}]\s*\)[+*{?]|\)[+*{]/.test(pattern)) return false;
  try {
    new RegExp(`^(?:${pattern})$`, 'u');
    return true;
  } catch {
    return false;
  }
}
