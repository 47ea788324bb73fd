import { applyFilters } from '../../../intents/filters.ts';
import { fillTemplate, parseExpression } from '../../../intents/template.ts';
import type { Field, Template } from '../../config/notify.ts';
import type { Notice } from './notice.ts';

/** Fills a template with a notice. The inserted values are not read as a template again. */
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
