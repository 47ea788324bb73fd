import { EventLines } from '../../client/event-lines.ts';
import type { AnyEvent, Event } from '../../protocol/event.ts';
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
  { follow, json }: { follow: boolean; json: boolean },
): Promise<Receipt | undefined> {
  const printer = new EventPrinter(json);
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
  readonly #lines = new EventLines();

  constructor(json: boolean) {
    this.#json = json;
  }

  event(received: AnyEvent | Event): void {
    if (this.#json) {
      console.log(JSON.stringify(received));
      return;
    }
    const event = received as Event;
    this.#lines.observe(event);
    if (event.kind === 'step-finished') process.stdout.write(stripControl(this.#lines.flush(event.document)));
    const text = formatEvent(event) ?? `${JSON.stringify(event)}\n`;
    process.stdout.write(stripControl('document' in event ? this.#lines.prefixOutput(event.document, text) : text));
  }

  receipt(receipt: Receipt): void {
    if (this.#json) console.log(JSON.stringify({ ...receipt, type: 'receipt' }));
    else showReceipt(receipt);
  }
}

export function showReceipt({ outcome, reason, message, remedy, documents }: Receipt): void {
  for (const { id, action, stack, name, outcome, images } of documents) {
    console.log(
      `${outcomeMark(outcome)} ${action} on ${stack || name}${id === undefined ? '' : ` (${id})`}: ${outcome}`,
    );
    for (const { service, before, after } of images) {
      if (before !== after)
        console.log(`    ${service}: ${before?.slice(0, 19) ?? 'none'} → ${after?.slice(0, 19) ?? 'none'}`);
    }
  }
  const details = [reason, message, remedy].filter(Boolean).join('. ').replaceAll('..', '.');
  console.log(stripControl(`${outcomeMark(outcome)} ${outcome}${details ? `: ${details}` : ''}`));
}

/** Returns undefined for an event that only a newer agent sends. */
function formatEvent(event: Event): string | undefined {
  switch (event.kind) {
    case 'waiting':
      return `waiting for run ${event.for}, which holds ${event.what}\n`;
    case 'planned':
      return formatPlan(event);
    case 'step-started':
      return `── ${event.phase === 'do' ? '' : `${event.phase}: `}${event.step}: ${event.text}\n`;
    case 'output':
      return event.text;
    case 'step-finished':
      return `${outcomeMark(event.outcome)} ${event.step} (${(event.ms / 1000).toFixed(1)} s)${event.message ? `: ${event.message}` : ''}\n`;
    case 'note':
      return `${event.text}\n`;
    case 'document-finished':
      return '';
  }
}

/** Returns a plan as text, without its steps: a run shows each when it starts. */
function formatPlan({ title, summary, changes }: Extract<Event, { kind: 'planned' }>): string {
  const lines = changes.map(({ subject, change, details }) => {
    const reasons = details.length > 0 ? ` (${details.join(', ')})` : '';
    return `  ${subject}: ${change}${reasons}`;
  });
  return [title, ...(summary ? [`  ${summary}`] : []), ...lines, ''].join('\n');
}

function outcomeMark(outcome: string): string {
  return outcome === 'succeeded' || outcome === 'planned' ? '✓' : outcome === 'skipped' ? '–' : '✗';
}

function stripControl(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for control characters
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
