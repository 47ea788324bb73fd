import { EventLines } from '../client/event-lines.ts';
import type { AnyEvent, Change, PlannedStep } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Log } from './log.ts';

/** Shows a run in the job's log while it happens: one group a step, then the outcome. */
export class Report {
  readonly #log: Log;
  readonly #dryRun: boolean;
  readonly #lanes: EventLines;
  readonly #host: string;
  #inGroup = false;

  /** `beside`: other hosts speak at the same time. */
  constructor(log: Log, host: string, dryRun: boolean, beside = false) {
    this.#log = log;
    this.#dryRun = dryRun;
    this.#lanes = new EventLines(beside);
    this.#host = host;
  }

  async event(event: AnyEvent): Promise<void> {
    this.#log.host(this.#host);
    const at = event as AnyEvent & Record<string, unknown>;
    this.#lanes.observe(at);
    switch (event.kind) {
      case 'waiting':
        return this.#log.remoteLine(`waiting for run ${text(at.for)}, which holds ${text(at.what)}`);
      case 'planned':
        return this.#planned(at);
      case 'step-started':
        return this.#stepStarted(at);
      case 'output':
        return this.#log.remote(this.#lanes.prefixOutput(at.document, text(at.text)));
      case 'step-finished':
        return this.#stepFinished(at);
      case 'note':
        return this.#log.remoteLine(text(at.text));
      case 'document-finished':
        return this.#close();
      default:
        // An agent that is newer than this action: nothing is swallowed.
        return this.#log.remoteLine(JSON.stringify(event));
    }
  }

  /** The last lines, outside of every group. */
  async receipt(receipt: Receipt): Promise<void> {
    this.#log.host(this.#host);
    await this.#close();
    for (const document of receipt.documents) {
      const id = document.id === undefined ? '' : ` (${document.id})`;
      const name = `${document.action} on ${document.stack || document.name}${id}`;
      await this.#log.remoteLine(`${mark(document.outcome)} ${name}: ${document.outcome}`);
      for (const { service, before, after } of document.images) {
        if (before !== after)
          await this.#log.remoteLine(`    ${service}: ${shortImage(before)} → ${shortImage(after)}`);
      }
    }
    await this.#log.end();
  }

  async end(): Promise<void> {
    await this.#close();
    await this.#log.end();
  }

  async #planned(at: Record<string, unknown>): Promise<void> {
    await this.#close();
    const tag = this.#dryRun ? '[DRY-RUN] ' : '';
    await this.#log.remoteLine(`${tag}${text(at.title)}`);
    if (!this.#dryRun && list<Change>(at.changes).length > 0) await this.#log.remoteLine(`  ${text(at.summary)}`);
    for (const { subject, change, details } of list<Change>(at.changes)) {
      const why = list<string>(details).join('; ');
      await this.#log.remoteLine(`${tag}  ${text(subject)}: ${text(change)}${why ? ` (${why})` : ''}`);
    }
    if (!this.#dryRun) return;
    for (const step of list<PlannedStep>(at.steps))
      await this.#log.remoteLine(`${tag}  ${text(step.name)}: ${text(step.text)}`);
  }

  /** A group a step; groups can't be open side by side, so there are none where several documents go on. */
  async #stepStarted(at: Record<string, unknown>): Promise<void> {
    const name = `${at.phase === 'undo' ? 'undo: ' : ''}${text(at.step)}`;
    await this.#close();
    if (this.#lanes.isConcurrent)
      return this.#log.remoteLine(`${this.#lanes.prefix(at.document)}── ${name}: ${text(at.text)}`);
    await this.#log.command('group', name);
    this.#inGroup = true;
    return this.#log.remoteLine(text(at.text));
  }

  async #stepFinished(at: Record<string, unknown>): Promise<void> {
    const seconds = (Number(at.ms) / 1000).toFixed(1);
    await this.#log.remote(this.#lanes.flush(at.document));
    await this.#close();
    const why = at.message === undefined ? '' : `: ${text(at.message)}`;
    const prefix = this.#lanes.prefix(at.document);
    await this.#log.remoteLine(`${prefix}${mark(text(at.outcome))} ${text(at.step)} (${seconds} s)${why}`);
  }

  async #close(): Promise<void> {
    if (!this.#inGroup) return;
    this.#inGroup = false;
    await this.#log.command('endgroup');
  }
}

export function mark(outcome: string): string {
  return outcome === 'succeeded' || outcome === 'planned' ? '✓' : outcome === 'skipped' ? '–' : '✗';
}

/** `sha256:0123456789ab`, or what stands there where it is no digest. */
export function shortImage(image: string | null): string {
  return image === null ? 'none' : image.slice(0, 19);
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : value === undefined ? '' : String(value);
}

function list<T>(value: unknown): T[] {
  return Array.isArray(value) ? (value as T[]) : [];
}
