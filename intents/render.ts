import { z } from 'zod';
import { applyFilters, explainFilterError, FILTERS, type ParamValue } from './filters.ts';
import { suggestNearest } from './suggest.ts';
import { fillTemplate, listExpressions, parseExpression, type TemplateFilter, wholeExpression } from './template.ts';

export type { ParamValue };

const ParamPattern = z.string().max(200).refine(isSafePattern, {
  error: 'Expected a regular expression without repeated groups ("(a+)+"), lookarounds or backreferences',
});

const ParamName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,63}$/, 'Expected the name of a parameter: lower-case letters, digits and "_"');

/** The declaration of one parameter in a file. */
const ParamDeclaration = z.union([
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
type ParamDeclaration = z.infer<typeof ParamDeclaration>;
export const ParamDeclarations = z.record(ParamName, ParamDeclaration);
export type ParamDeclarations = z.infer<typeof ParamDeclarations>;

export interface RenderProblem {
  code: 'unknown-param' | 'missing-param' | 'wrong-param' | 'wrong-filter';
  path: (string | number)[];
  message: string;
  instead: string;
}

const MAX_VALUE = 1024;

/** `params.tag | default: "latest"`: the name of the parameter and the filters; undefined for any other expression. */
function parseParam(source: string): { name: string; filters: TemplateFilter[] } | undefined {
  const { name = '', filters = [] } = parseExpression(source) ?? {};
  return name.startsWith('params.') ? { name: name.slice('params.'.length), filters } : undefined;
}

/** Options of a rendering. */
export interface RenderOptions {
  /** False checks a file without parameters: a missing one stays as written, and its path is in `open`. */
  complete: boolean;
  /** The time that `now` means. */
  at: Date;
}

/** Replaces the parameters in scalar values, after parsing, so that a value can never add YAML. */
export function renderTemplates(
  value: Record<string, unknown>,
  declared: ParamDeclarations,
  params: Record<string, ParamValue>,
  { complete, at }: RenderOptions,
): { value: Record<string, unknown>; problems: RenderProblem[]; open: Set<string> } {
  const problems: RenderProblem[] = [];
  const open = new Set<string>();
  const values = valuesOf(declared, params, complete, problems, findDefaultedParams(value));

  const evaluate = (source: string, path: (string | number)[]): ParamValue | undefined => {
    const param = parseParam(source);
    if (param && Object.hasOwn(declared, param.name)) {
      const result = applyFilters(values.get(param.name), param.filters, at);
      const wrong = param.filters.find(filter => !FILTERS.includes(filter.name)) ?? result.wrong;
      if (wrong) {
        problems.push({ code: 'wrong-filter', path, ...explainFilterError(wrong) });
        return undefined;
      }
      if (result.value === undefined) open.add(path.join('.'));
      return result.value;
    }
    const near = param && suggestNearest(param.name, Object.keys(declared));
    problems.push({
      code: 'unknown-param',
      path,
      message: `The expression "{{ ${source.slice(0, 60)} }}" does not name a declared parameter.`,
      instead: near
        ? `Write {{ params.${near} }}.`
        : 'Declare the parameter under "params:", and write {{ params.<name> }}, or with filters {{ params.<name> | default: "text" | lower }}.',
    });
    return undefined;
  };
  const renderText = (text: string, path: (string | number)[]): ParamValue => {
    const whole = wholeExpression(text);
    if (whole !== undefined) return evaluate(whole, path) ?? text;
    return fillTemplate(text, (source, placeholder) => String(evaluate(source, path) ?? placeholder));
  };
  const walk = (node: unknown, path: (string | number)[]): unknown => {
    if (typeof node === 'string') return node.includes('{{') ? renderText(node, path) : node;
    if (Array.isArray(node)) return node.map((item, index) => walk(item, [...path, index]));
    if (typeof node !== 'object' || node === null) return node;
    return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, walk(item, [...path, key])]));
  };
  return { value: walk(value, []) as Record<string, unknown>, problems, open };
}

/** Names the parameters that have a default in each of their uses. */
function findDefaultedParams(value: unknown): Set<string> {
  const uses = new Map<string, boolean>();
  const walk = (node: unknown): void => {
    if (typeof node === 'object' && node !== null) for (const item of Object.values(node)) walk(item);
    if (typeof node !== 'string') return;
    for (const source of listExpressions(node)) {
      const param = parseParam(source);
      if (!param) continue;
      const hasDefault = param.filters.some(filter => filter.name === 'default');
      uses.set(param.name, hasDefault && uses.get(param.name) !== false);
    }
  };
  walk(value);
  return new Set([...uses].flatMap(([name, hasDefault]) => (hasDefault ? [name] : [])));
}

function valuesOf(
  declared: ParamDeclarations,
  params: Record<string, ParamValue>,
  complete: boolean,
  problems: RenderProblem[],
  optional: ReadonlySet<string>,
): Map<string, ParamValue> {
  const values = new Map<string, ParamValue>();
  for (const [name, declaration] of Object.entries(declared)) {
    const raw = Object.hasOwn(params, name) ? params[name] : declaration.default;
    if (raw === undefined) {
      if (!complete) continue;
      if (declaration.required === false || optional.has(name)) values.set(name, '');
      else {
        problems.push({
          code: 'missing-param',
          path: ['params', name],
          message: `The parameter "${name}" has no value.`,
          instead: `Set it with the input "params" (${name}=…), or declare a default.`,
        });
      }
      continue;
    }
    const value = convert(declaration, raw);
    if (value !== undefined) values.set(name, value);
    else {
      problems.push({
        code: 'wrong-param',
        path: ['params', name],
        message: `The value of the parameter "${name}" does not match its declaration.`,
        instead: `Set it to ${expectation(declaration)}.`,
      });
    }
  }
  return values;
}

/** Converts a value to the declared type: a number or a boolean may come as text. Undefined if the value does not match. */
function convert(declaration: ParamDeclaration, raw: ParamValue): ParamValue | undefined {
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
      // A value must not be read as a template again.
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

/** Patterns come from the repository: accepts only those that can't take exponential time. */
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
