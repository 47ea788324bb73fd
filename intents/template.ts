/** One filter of an expression: `default: "latest"`. */
export interface TemplateFilter {
  name: string;
  argument: string | number | undefined;
}

/** The text between `{{` and `}}`, parsed: a name and the filters after it. */
export interface TemplateExpression {
  name: string;
  filters: TemplateFilter[];
}

const PLACEHOLDER = /\{\{\s*(.*?)\s*\}\}/g;
const WHOLE = /^\{\{\s*([^{}]*?)\s*\}\}$/;
/** `| default: "latest"`, with groups for the name and for each kind of argument. */
const FILTER = String.raw`\s*\|\s*([a-z]+)(?:\s*:\s*(?:"([^"{}]*)"|'([^'{}]*)'|(-?\d+(?:\.\d+)?)))?`;
const EACH_FILTER = new RegExp(FILTER, 'g');
const EXPRESSION = new RegExp(`^([a-z][a-z0-9_.]*)(?:${FILTER})*$`);

/** Lists the text between `{{` and `}}` of each placeholder, in order. */
export function listExpressions(text: string): string[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, source = '']) => source);
}

/** Returns the text between `{{` and `}}` if the placeholder is the whole text. */
export function wholeExpression(text: string): string | undefined {
  return WHOLE.exec(text)?.[1];
}

/** Replaces each placeholder by what `fill` returns for its inside. The result is not read as a template again. */
export function fillTemplate(text: string, fill: (source: string, placeholder: string) => string): string {
  return text.replaceAll(PLACEHOLDER, (placeholder, source: string) => fill(source, placeholder));
}

/** Parses the text between `{{` and `}}`; undefined if it is not an expression. The caller checks name and filters. */
export function parseExpression(source: string): TemplateExpression | undefined {
  const [, name] = EXPRESSION.exec(source) ?? [];
  if (name === undefined) return undefined;
  const filters = [...source.slice(name.length).matchAll(EACH_FILTER)].map(
    ([, filter = '', double, single, number]) => ({
      name: filter,
      argument: number === undefined ? (double ?? single) : Number(number),
    }),
  );
  return { name, filters };
}
