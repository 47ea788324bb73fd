import type { AnyEvent, Change, PlannedStep } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';

export interface RenderOptions {
  /** Tags the lines of a plan, and adds its steps: nothing else shows them in a dry run. */
  dryRun?: boolean;
  /** Leaves out the summary of a plan without changes. */
  brief?: boolean;
}

/**
 * Returns an event as lines for people. Output has no lines: callers print its text unchanged, in pieces. An event of a newer
 * agent is a line of JSON, so that nothing is lost.
 */
export function renderEvent(event: AnyEvent, options: RenderOptions = {}): string[] {
  const fields = event as AnyEvent & Record<string, unknown>;
  switch (event.kind) {
    case 'waiting':
      return [`waiting for run ${textOf(fields.for)}, which holds ${textOf(fields.what)}`];
    case 'planned':
      return renderPlan(fields, options);
    case 'step-started':
      return [`── ${stepNameOf(event)}: ${textOf(fields.text)}`];
    case 'step-finished': {
      const seconds = (Number(fields.ms) / 1000).toFixed(1);
      const message = fields.message === undefined ? '' : `: ${textOf(fields.message)}`;
      return [`${markOf(textOf(fields.outcome))} ${textOf(fields.step)} (${seconds} s)${message}`];
    }
    case 'note':
      return [textOf(fields.text)];
    case 'output':
    case 'document-finished':
      return [];
    default:
      return [JSON.stringify(event)];
  }
}

function renderPlan(fields: Record<string, unknown>, { dryRun = false, brief = false }: RenderOptions): string[] {
  const tag = dryRun ? '[DRY-RUN] ' : '';
  const changes = listOf<Change>(fields.changes);
  const summary = textOf(fields.summary);
  const hasSummary = summary !== '' && !dryRun && (changes.length > 0 || !brief);
  return [
    textOf(fields.title),
    ...(hasSummary ? [`  ${summary}`] : []),
    ...changes.map(({ subject, change, details }) => {
      const reasons = listOf<string>(details).join('; ');
      return `  ${textOf(subject)}: ${textOf(change)}${reasons ? ` (${reasons})` : ''}`;
    }),
    ...(dryRun ? listOf<PlannedStep>(fields.steps).map(step => `  ${textOf(step.name)}: ${textOf(step.text)}`) : []),
  ].map(line => tag + line);
}

/** Returns the outcomes of the documents of a run, with the images that changed. */
export function renderReceipt({ documents }: Receipt): string[] {
  return documents.flatMap(({ action, id, images, name, outcome, stack }) => [
    `${markOf(outcome)} ${action} on ${stack || name}${id === undefined ? '' : ` (${id})`}: ${outcome}`,
    ...images
      .filter(({ before, after }) => before !== after)
      .map(({ service, before, after }) => `    ${service}: ${shortImage(before)} → ${shortImage(after)}`),
  ]);
}

/** Returns the name of a started step, with its phase if that is undo or cleanup. */
export function stepNameOf(event: AnyEvent): string {
  const { phase, step } = event as AnyEvent & Record<string, unknown>;
  return phase === undefined || phase === 'do' ? textOf(step) : `${textOf(phase)}: ${textOf(step)}`;
}

/** Returns ✓, – or ✗ for an outcome. */
export function markOf(outcome: string): string {
  return outcome === 'succeeded' || outcome === 'planned' ? '✓' : outcome === 'skipped' ? '–' : '✗';
}

/** Returns the first characters of an image's digest (`sha256:0123456789ab`), or `none`. */
export function shortImage(image: string | null): string {
  return image === null ? 'none' : image.slice(0, 19);
}

/** Returns a field of an event as text: a newer agent may send another type. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : value === undefined ? '' : String(value);
}

function listOf<T>(value: unknown): T[] {
  return Array.isArray(value) ? (value as T[]) : [];
}
