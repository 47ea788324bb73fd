import type { Event } from '../../protocol/event.ts';
import { Lanes } from '../../protocol/lanes.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import { lines } from './ask.ts';

type Line = Event | { type: 'receipt'; payload: string };

/**
 * Shows a run as it goes on, or as far as it has come. Returns its receipt, or undefined where it has not ended. What a
 * program printed is shown as it is, but for control characters, which could command the terminal.
 */
export async function showLog(
  socket: string,
  run: string,
  { follow, json }: { follow: boolean; json: boolean },
): Promise<Receipt | undefined> {
  const lanes = new Lanes();
  for await (const line of lines<Line>(socket, `/runs/${run}/log${follow ? '?follow=1' : ''}`)) {
    if (line.type === 'receipt') {
      const receipt = JSON.parse(Buffer.from(line.payload, 'base64').toString()) as Receipt;
      if (json) console.log(JSON.stringify({ ...receipt, type: 'receipt' }));
      else showReceipt(receipt);
      return receipt;
    }
    if (json) {
      console.log(JSON.stringify(line));
      continue;
    }
    lanes.heard(line);
    if (line.kind === 'step-finished') process.stdout.write(harmless(lanes.rest(line.document)));
    const text = textOf(line);
    process.stdout.write(harmless('document' in line ? lanes.piece(line.document, text) : text));
  }
  return undefined;
}

export function showReceipt({ outcome, reason, message, remedy, documents }: Receipt): void {
  for (const { id, action, stack, name, outcome, images } of documents) {
    console.log(`${markOf(outcome)} ${action} on ${stack || name}${id === undefined ? '' : ` (${id})`}: ${outcome}`);
    for (const { service, before, after } of images) {
      if (before !== after)
        console.log(`    ${service}: ${before?.slice(0, 19) ?? 'none'} → ${after?.slice(0, 19) ?? 'none'}`);
    }
  }
  const why = [reason, message, remedy].filter(Boolean).join('. ').replaceAll('..', '.');
  console.log(harmless(`${markOf(outcome)} ${outcome}${why ? `: ${why}` : ''}`));
}

function textOf(event: Event): string {
  switch (event.kind) {
    case 'waiting':
      return `waiting for run ${event.for}, which holds ${event.what}\n`;
    case 'planned':
      return planOf(event);
    case 'step-started':
      return `── ${event.phase === 'do' ? '' : `${event.phase}: `}${event.step}: ${event.text}\n`;
    case 'output':
      return event.text;
    case 'step-finished':
      return `${markOf(event.outcome)} ${event.step} (${(event.ms / 1000).toFixed(1)} s)${event.message ? `: ${event.message}` : ''}\n`;
    case 'note':
      return `${event.text}\n`;
    case 'document-finished':
      return '';
  }
}

/** The plan as a person reads it; where it is carried out the steps tell themselves. */
function planOf({ title, summary, changes }: Extract<Event, { kind: 'planned' }>): string {
  const told = changes.map(({ subject, change, details }) => {
    const why = details.length > 0 ? ` (${details.join(', ')})` : '';
    return `  ${subject}: ${change}${why}`;
  });
  return [title, ...(summary ? [`  ${summary}`] : []), ...told, ''].join('\n');
}

function markOf(outcome: string): string {
  return outcome === 'succeeded' || outcome === 'planned' ? '✓' : outcome === 'skipped' ? '–' : '✗';
}

function harmless(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
