import { suggestNearest } from './suggest.ts';
import type { TemplateFilter } from './template.ts';

/** The value of a parameter. */
export type ParamValue = string | number | boolean;

export const FILTERS = ['default', 'lower', 'upper', 'date'];

/**
 * Applies the filters to a value, in order. `at` is the time that `now` means to `date`. `wrong` is the first filter that
 * does not accept its argument or the value.
 */
export function applyFilters(
  value: ParamValue | undefined,
  filters: readonly TemplateFilter[],
  at: Date,
): { value: ParamValue | undefined; wrong?: TemplateFilter } {
  let result = value;
  for (const filter of filters) {
    const { name, argument } = filter;
    if ((name === 'default' || name === 'date') !== (argument !== undefined)) return { value: result, wrong: filter };
    if (name === 'default') result = result === undefined || result === '' ? argument : result;
    else if (result === undefined) continue;
    else if (name === 'lower') result = String(result).toLowerCase();
    else if (name === 'upper') result = String(result).toUpperCase();
    else if (name === 'date') {
      const date = result === 'now' ? at : readDate(String(result));
      if (!date) return { value: result, wrong: filter };
      result = formatDate(date, String(argument));
    }
  }
  return { value: result };
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
      return { message: 'The filter "default" has no value.', instead: 'Write {{ params.<name> | default: "text" }}.' };
    case 'date':
      return {
        message: 'The filter "date" can\'t be used: it needs a date and a format.',
        instead:
          'Give a date such as 2026-11-21 or 2026-11-21T06:00:00Z, or "now", and write {{ params.<name> | date: "%Y-%m-%d" }}.',
      };
    default:
      return { message: `The filter "${name}" takes no value.`, instead: `Write {{ params.<name> | ${name} }}.` };
  }
}

/** Reads an ISO 8601 day, or a time with its zone: the result does not depend on the time zone of the host. */
function readDate(text: string): Date | undefined {
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) return undefined;
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** Formats a date in UTC: %Y %m %d %H %M %S %j (day of the year) %s (seconds since 1970) %%. */
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
