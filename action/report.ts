import { EventLines } from '../client/event-lines.ts';
import { renderEvent, renderReceipt, stepNameOf, textOf } from '../client/render-event.ts';
import type { AnyEvent } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Log } from './log.ts';

/** Shows a run in the log of the job while it happens: one group for each step, then the outcome. */
export class Report {
  readonly #log: Log;
  readonly #dryRun: boolean;
  readonly #lanes: EventLines;
  readonly #host: string;
  #inGroup = false;

  /** `isParallel`: other hosts write to the log at the same time. */
  constructor(log: Log, host: string, dryRun: boolean, isParallel = false) {
    this.#log = log;
    this.#dryRun = dryRun;
    this.#lanes = new EventLines(isParallel);
    this.#host = host;
  }

  async event(event: AnyEvent): Promise<void> {
    this.#log.host(this.#host);
    this.#lanes.heard(event);
    const { document, text } = event as AnyEvent & Record<string, unknown>;
    switch (event.kind) {
      case 'step-started':
        return this.#stepStarted(event);
      case 'output':
        return this.#log.remote(this.#lanes.piece(document, textOf(text)));
      case 'step-finished':
        await this.#log.remote(this.#lanes.rest(document));
        await this.#close();
        return this.#lines(renderEvent(event), this.#lanes.prefix(document));
      case 'planned':
      case 'document-finished':
        await this.#close();
        break;
    }
    await this.#lines(renderEvent(event, { dryRun: this.#dryRun, brief: true }));
  }

  /** Writes the last lines, outside of every group. */
  async receipt(receipt: Receipt): Promise<void> {
    this.#log.host(this.#host);
    await this.#close();
    await this.#lines(renderReceipt(receipt));
    await this.#log.end();
  }

  async end(): Promise<void> {
    await this.#close();
    await this.#log.end();
  }

  /** Starts a group for the step. Groups can't be open at the same time, so parallel documents get lines instead. */
  async #stepStarted(event: AnyEvent): Promise<void> {
    const { document, text } = event as AnyEvent & Record<string, unknown>;
    await this.#close();
    if (this.#lanes.areMany) return this.#lines(renderEvent(event), this.#lanes.prefix(document));
    await this.#log.command('group', stepNameOf(event));
    this.#inGroup = true;
    return this.#log.remoteLine(textOf(text));
  }

  async #lines(lines: string[], prefix = ''): Promise<void> {
    for (const line of lines) await this.#log.remoteLine(`${prefix}${line}`);
  }

  async #close(): Promise<void> {
    if (!this.#inGroup) return;
    this.#inGroup = false;
    await this.#log.command('endgroup');
  }
}
