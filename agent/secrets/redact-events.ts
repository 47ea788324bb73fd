import type { ProgressEvent } from '../plan/progress.ts';
import type { Redactor } from '../system/redactor.ts';

/** Removes secrets from the texts of an event; names and numbers stay. */
export function redactEvent(event: ProgressEvent, redactor: Redactor): ProgressEvent {
  if (redactor.isIdle) return event;
  const mark =
    event.mark && 'ending' in event.mark
      ? { ...event.mark, ending: redactResult(event.mark.ending, redactor) }
      : event.mark;
  const redacted = { ...event, ...(mark ? { mark } : {}) };
  switch (redacted.kind) {
    case 'planned': {
      const { title, summary, steps, changes } = redacted;
      return {
        ...redacted,
        ...{ title: redactor.text(title), summary: redactor.text(summary), changes: redactor.all(changes) },
        steps: steps.map(({ name, text }) => ({ name, text: redactor.text(text) })),
      };
    }
    case 'step-started':
    case 'note':
      return { ...redacted, text: redactor.text(redacted.text) };
    case 'output':
      // Bytes from a step's log were redacted in the file.
      return 'text' in redacted ? { ...redacted, text: redactor.text(redacted.text) } : redacted;
    case 'step-finished':
    case 'document-finished':
      return redactResult(redacted, redactor);
    default:
      return redacted;
  }
}

/** Removes secrets from a result's message and remedy. */
export function redactResult<T extends { message?: string; remedy?: string }>(result: T, redactor: Redactor): T {
  const { message, remedy } = result;
  return {
    ...result,
    ...(message === undefined ? {} : { message: redactor.text(message) }),
    ...(remedy === undefined ? {} : { remedy: redactor.text(remedy) }),
  };
}
