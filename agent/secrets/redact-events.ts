import type { ProgressEvent } from '../plan/progress.ts';
import type { Redactor } from '../system/redactor.ts';

/** Words for people, without secrets; names and numbers stay. */
export function redactEvent(told: ProgressEvent, redactor: Redactor): ProgressEvent {
  if (redactor.isIdle) return told;
  const mark =
    told.mark && 'ending' in told.mark ? { ...told.mark, ending: redactResult(told.mark.ending, redactor) } : told.mark;
  const rest = { ...told, ...(mark ? { mark } : {}) };
  switch (rest.kind) {
    case 'planned': {
      const { title, summary, steps, changes } = rest;
      return {
        ...rest,
        ...{ title: redactor.text(title), summary: redactor.text(summary), changes: redactor.all(changes) },
        steps: steps.map(({ name, text }) => ({ name, text: redactor.text(text) })),
      };
    }
    case 'step-started':
    case 'note':
      return { ...rest, text: redactor.text(rest.text) };
    case 'output':
      // Bytes from a file have been covered there.
      return 'text' in rest ? { ...rest, text: redactor.text(rest.text) } : rest;
    case 'step-finished':
    case 'document-finished':
      return redactResult(rest, redactor);
    default:
      return rest;
  }
}

/** An ending without secrets in its message and remedy. */
export function redactResult<T extends { message?: string; remedy?: string }>(ending: T, redactor: Redactor): T {
  const { message, remedy } = ending;
  return {
    ...ending,
    ...(message === undefined ? {} : { message: redactor.text(message) }),
    ...(remedy === undefined ? {} : { remedy: redactor.text(remedy) }),
  };
}
