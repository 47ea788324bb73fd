import { suggestNearest } from './suggest.ts';

/** What a parameter can be. */
export type ParamValue = string | number | boolean;

/** One filter of a template: `default: "latest"`. */
export interface TemplateFilter {
  name: string;
  argument: string | number | undefined;
}

export const FILTERS = ['default', 'lower', 'upper', 'date'];

/** `| default: "latest" | lower` as it is written after a name. */
export function readFilters(written: string): TemplateFilter[] {
  const each = /\|\s*([a-z]+)(?:\s*:\s*(?:"([^"]*)"|'([^']*)'|(-?\d+(?:\.\d+)?)))?/g;
  return [...written.matchAll(each)].map(([, name = '', double, single, number]) => ({
    name,
    argument: number === undefined ? (double ?? single) : Number(number),
  }));
}

/**
 * Does to a value what the filters say, in order. `at` is what `now` means to `date`. `wrong` is the filter that can't be
 * used like that, or on that value.
 */
export function applyFilters(
  value: ParamValue | undefined,
  filters: readonly TemplateFilter[],
  at: Date,
): { value: ParamValue | undefined; wrong?: TemplateFilter } {
  let is = value;
  for (const filter of filters) {
    const { name, argument } = filter;
    if ((name === 'default' || name === 'date') !== (argument !== undefined)) return { value: is, wrong: filter };
    if (name === 'default') is = is === undefined || is === '' ? argument : is;
    else if (is === undefined) continue;
    else if (name === 'lower') is = String(is).toLowerCase();
    else if (name === 'upper') is = String(is).toUpperCase();
    else if (name === 'date') {
      const when = is === 'now' ? at : readDate(String(is));
      if (!when) return { value: is, wrong: filter };
      is = formatDate(when, String(argument));
    }
  }
  return { value: is };
}

export function explainFilterError({ name }: TemplateFilter): { message: string; instead: string } {
  if (!FILTERS.includes(name)) {
    const near = suggestNearest(name, FILTERS);
    return {
      message: `The filter "${name}" is not known.`,
      instead: near ? `Did you mean "${near}"?` : `Known filters: ${FILTERS.join(', ')}.`,
    };
  }
  switch (name) {
    case 'default':
      return { message: '"default" has no value.', instead: 'Write {{ params.<name> | default: "text" }}.' };
    case 'date':
      return {
        message: '"date" is for a date, and wants a format.',
        instead:
          'Give a date such as 2026-11-21 or 2026-11-21T06:00:00Z, or "now", and write {{ params.<name> | date: "%Y-%m-%d" }}.',
      };
    default:
      return { message: `"${name}" takes no value.`, instead: `Write {{ params.<name> | ${name} }}.` };
  }
}

/** ISO 8601, a day or a time with its zone; nothing that depends on where it is read. */
function readDate(text: string): Date | undefined {
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) return undefined;
  const read = new Date(text);
  return Number.isNaN(read.getTime()) ? undefined : read;
}

/** In UTC: %Y %m %d %H %M %S %j (day of the year) %s (seconds since 1970) %%. */
function formatDate(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const parts: Record<string, string> = {
    Y: String(date.getUTCFullYear()),
    m: two(date.getUTCMonth() + 1),
    d: two(date.getUTCDate()),
    H: two(date.getUTCHours()),
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    j: String(1 + Math.floor((date.getTime() - Date.UTC(date.getUTCFullYear())) / 86_400_000)).padStart(3, '0'),
    s: String(Math.floor(date.getTime() / 1000)),
    '%': '%',
  };
  return format.replaceAll(/%(.)/g, (all, letter: string) => parts[letter] ?? all);
}
