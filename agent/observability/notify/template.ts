import { z } from 'zod';
import { applyFilters, FILTERS, readFilters } from '../../../intents/filters.ts';
import { nearest } from '../../../intents/suggest.ts';
import type { Notice } from './notice.ts';

/** What of a notice a template can say. */
const FIELDS = [
  'event',
  'severity',
  'agent',
  'at',
  'title',
  'text',
  'code',
  'stack',
  'run',
  'schedule',
  'url',
  'count',
] as const;
type Field = (typeof FIELDS)[number];

const EACH = /\{\{\s*(.*?)\s*\}\}/g;
const EXPRESSION = /^([a-z]+)((?:\s*\|\s*[a-z]+(?:\s*:\s*(?:"[^"{}]*"|'[^'{}]*'|-?\d+(?:\.\d+)?))?)*)$/;

const Text = z
  .string()
  .min(1)
  .max(2_000)
  .superRefine((text, context) => {
    for (const [, expression = ''] of text.matchAll(EACH)) {
      const [, name = '', filters = ''] = EXPRESSION.exec(expression) ?? [];
      const isField = FIELDS.some(field => field === name);
      const wrong = readFilters(filters).find(filter => !FILTERS.includes(filter.name));
      if (isField && !wrong) continue;
      const near = isField ? undefined : nearest(name, FIELDS);
      context.addIssue({
        code: 'custom',
        message: near
          ? `"{{ ${expression} }}" is not known; did you mean {{ ${near} }}?`
          : `"{{ ${expression} }}" is not known. Known: ${FIELDS.join(', ')}; filters: ${FILTERS.join(', ')}`,
      });
    }
  });

/** Other words for a notice: `{{ agent }}`, `{{ stack | default: "this host" }}`. */
export const Template = z
  .strictObject({ title: Text.optional().describe('In place of "AGENT: TITLE".'), text: Text.optional() })
  .describe(
    'Other words: {{ event }}, {{ severity }}, {{ agent }}, {{ title }}, {{ text }}, {{ code }}, {{ stack }}, {{ run }}, {{ schedule }}, {{ url }}, {{ count }}, {{ at }}.',
  );
export type Template = z.infer<typeof Template>;

/** The notice in a template's words. What it says in place of them is put in once and never read as a template. */
export function inWords(template: Template | undefined, notice: Notice): Notice {
  if (!template) return notice;
  const fill = (text: string) =>
    text.replaceAll(EACH, (_, expression: string) => {
      const [, name = '', filters = ''] = EXPRESSION.exec(expression) ?? [];
      const value = applyFilters(notice[name as Field], readFilters(filters), new Date(notice.at)).value;
      return String(value ?? '');
    });
  return {
    ...notice,
    ...(template.title === undefined ? {} : { headline: fill(template.title) }),
    ...(template.text === undefined ? {} : { text: fill(template.text) }),
  };
}
