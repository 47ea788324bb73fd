import type { ProgressEvent } from '../plan/progress.ts';
import type { Redactor } from '../system/redactor.ts';

/*
 * A text of an event is a sentence of the agent with values in it. Output of programs is redacted before, when the agent
 * reads it: there every secret is redacted, also one that is a word of the agent.
 */

/** Removes secrets from the values in an event's texts, and hidden text. Names and numbers stay. */
export function redactEvent(event: ProgressEvent, redactor: Redactor): ProgressEvent {
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
        ...{ title: redactor.sentence(title), summary: redactor.sentence(summary) },
        changes: redactor.sentences(changes),
        steps: steps.map(({ name, text }) => ({ name, text: redactor.sentence(text) })),
      };
    }
    case 'step-started':
    case 'note':
      return { ...redacted, text: redactor.sentence(redacted.text) };
    case 'output':
      // Bytes from a step's log were redacted in the file.
      return 'text' in redacted ? { ...redacted, text: redactor.sentence(redacted.text) } : redacted;
    case 'step-finished':
    case 'document-finished':
      return redactResult(redacted, redactor);
    default:
      return redacted;
  }
}

/** Removes secrets from the values in a result's message and remedy, and hidden text. */
export function redactResult<T extends { message?: string; remedy?: string }>(result: T, redactor: Redactor): T {
  const { message, remedy } = result;
  return {
    ...result,
    ...(message === undefined ? {} : { message: redactor.sentence(message) }),
    ...(remedy === undefined ? {} : { remedy: redactor.sentence(remedy) }),
  };
}
