import { applyFilters } from '../../../intents/filters.ts';
import { fillTemplate, parseExpression } from '../../../intents/template.ts';
import type { Field, Template } from '../../config/notify.ts';
import type { Notice } from './notice.ts';

/** The notice in a template's words. What it says in place of them is put in once and never read as a template. */
export function applyTemplate(template: Template | undefined, notice: Notice): Notice {
  if (!template) return notice;
  const fill = (text: string) =>
    fillTemplate(text, source => {
      const { name = '', filters = [] } = parseExpression(source) ?? {};
      const { value } = applyFilters(notice[name as Field], filters, new Date(notice.at));
      return String(value ?? '');
    });
  return {
    ...notice,
    ...(template.title === undefined ? {} : { headline: fill(template.title) }),
    ...(template.text === undefined ? {} : { text: fill(template.text) }),
  };
}
