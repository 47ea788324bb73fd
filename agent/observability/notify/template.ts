import { applyFilters, readFilters } from '../../../intents/filters.ts';
import { EACH, EXPRESSION, type Field, type Template } from '../../config/notify.ts';
import type { Notice } from './notice.ts';

/** The notice in a template's words. What it says in place of them is put in once and never read as a template. */
export function applyTemplate(template: Template | undefined, notice: Notice): Notice {
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
