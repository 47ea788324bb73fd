import { EventLines } from '../../client/event-lines.ts';
import { markOf, renderEvent, renderReceipt } from '../../client/render-event.ts';
import type { AnyEvent, Event } from '../../protocol/event.ts';
import { toPlainText } from '../../protocol/plain-text.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import { requestLines } from './local-client.ts';

type LogLine = Event | { type: 'receipt'; payload: string };

/**
 * Shows the log of a run. Returns its receipt, or undefined if the run has not ended. Removes control characters from
 * the output of programs, because they could control the terminal.
 */
export async function showLog(
  socket: string,
  run: string,
  { follow, json, parallel }: { follow: boolean; json: boolean; parallel?: boolean },
): Promise<Receipt | undefined> {
  const printer = new EventPrinter(json, parallel);
  for await (const line of requestLines<LogLine>(socket, `/runs/${run}/log${follow ? '?follow=1' : ''}`)) {
    if (line.type === 'receipt') {
      const receipt = JSON.parse(Buffer.from(line.payload, 'base64').toString()) as Receipt;
      printer.receipt(receipt);
      return receipt;
    }
    printer.event(line);
  }
  return undefined;
}

/** Prints the events of a run in their order: as text, or as JSON lines. */
export class EventPrinter {
  readonly #json: boolean;
  readonly #lines: EventLines;

  /** `parallel`: documents may run at the same time, so that each line names its document. */
  constructor(json: boolean, parallel = false) {
    this.#json = json;
    this.#lines = new EventLines(parallel);
  }

  event(received: AnyEvent | Event): void {
    if (this.#json) {
      console.log(JSON.stringify(received));
      return;
    }
    const event = received as Event;
    this.#lines.observe(event);
    if (event.kind === 'step-finished') process.stdout.write(stripControl(this.#lines.flush(event.document)));
    const text =
      event.kind === 'output'
        ? event.text
        : renderEvent(event)
            .map(line => `${line}\n`)
            .join('');
    process.stdout.write(stripControl('document' in event ? this.#lines.prefixOutput(event.document, text) : text));
  }

  receipt(receipt: Receipt): void {
    if (this.#json) console.log(JSON.stringify({ ...receipt, type: 'receipt' }));
    else showReceipt(receipt);
  }
}

export function showReceipt(receipt: Receipt): void {
  const { outcome, reason, message, remedy } = receipt;
  for (const line of renderReceipt(receipt)) console.log(line);
  const details = [reason, message, remedy].filter(Boolean).join('. ').replaceAll('..', '.');
  console.log(stripControl(`${markOf(outcome)} ${outcome}${details ? `: ${details}` : ''}`));
}

/** The terminal's own text stays as it is: no color, and no carriage return that overwrites a line. */
function stripControl(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for the colors that plain text may have.
  return toPlainText(text).replace(/\u001b\[[\d;]*m|\r/g, '');
}
