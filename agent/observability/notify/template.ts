import { applyFilters, readFilters } from '../../../intents/filters.ts';
import { EACH, EXPRESSION, type Field, type Template } from '../../config/notify.ts';
import type { Notice } from './notice.ts';

/** Fills a template with a notice. The inserted values are not read as a template again. */
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
