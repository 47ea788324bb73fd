import { type Ended, graphMermaid, labelOf } from '../intents/graph.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import type { CommandResult } from './orchestrate.ts';
import { mark, shortImage } from './report.ts';

/** GitHub drops a summary of more than 1 MiB whole; this leaves room for other steps' escaping. */
const MAX_CHARACTERS = 200_000;

/** How many runs are told in full; of more only those that did not succeed. */
const MOST_IN_FULL = 20;

/** What was to be done, and what came of it on each host. */
export interface GraphSummary {
  documents: LoadedIntent[];
  ended: readonly (Ended | undefined)[];
  sent: readonly CommandResult[];
}

/** The graph as a picture, and where there were several commands a row for each. */
export function summaryOfGraph({ documents, ended, sent }: GraphSummary): string {
  const lines: string[] = [];
  if (documents.length > 1) lines.push('```mermaid', graphMermaid(documents, ended), '```', '');
  if (sent.length > 1) {
    lines.push('| host | documents | outcome |', '|---|---|---|');
    for (const { host, places, receipt, refusal } of sent) {
      const labels = places.map(place => labelOf(documents[place] as LoadedIntent)).join(', ');
      const outcome = receipt?.outcome ?? `refused: ${refusal?.code ?? ''}`;
      lines.push(`| ${cell(host || (receipt?.agent ?? ''))} | ${cell(labels)} | ${mark(outcome)} ${cell(outcome)} |`);
    }
    lines.push('');
  }
  return bounded(lines.join('\n'));
}

/** The job summaries of runs. */
export function summariesOf(receipts: readonly Receipt[]): string[] {
  const isTold = ({ outcome }: Receipt) => receipts.length <= MOST_IN_FULL || mark(outcome) === '✗';
  return receipts.filter(isTold).slice(0, MOST_IN_FULL).map(summaryOf);
}

/** The job summary of a run: steps with outcome and duration, images before and after. Markdown; everything told is escaped. */
function summaryOf(receipt: Receipt): string {
  const lines = [
    `### ${mark(receipt.outcome)} ${receipt.outcome} on ${cell(receipt.agent)}`,
    '',
    ...(receipt.message === undefined ? [] : [`**${cell(receipt.reason ?? '')}**: ${cell(receipt.message)}`, '']),
    ...(receipt.remedy === undefined ? [] : [cell(receipt.remedy), '']),
  ];
  for (const document of receipt.documents) {
    const service = document.service === undefined ? '' : ` ${document.service}`;
    lines.push(
      `#### ${cell(`${document.action}${service} on ${document.stack || document.name}${document.id === undefined ? '' : ` (${document.id})`}`)}: ${document.outcome}`,
      '',
    );
    if (document.steps.length > 0) {
      lines.push('| step | outcome | duration |', '|---|---|---|');
      for (const { name, outcome, ms } of document.steps) {
        lines.push(
          `| ${cell(name)} | ${mark(outcome)} ${cell(outcome)} | ${outcome === 'skipped' ? '' : `${(ms / 1000).toFixed(1)} s`} |`,
        );
      }
      lines.push('');
    }
    if (document.images.length > 0) {
      lines.push('| service | image | before | after |', '|---|---|---|---|');
      for (const { service, reference, before, after } of document.images) {
        lines.push(
          `| ${cell(service)} | ${cell(reference)} | ${cell(shortImage(before))} | ${cell(shortImage(after))} |`,
        );
      }
      lines.push('');
    }
  }
  lines.push(
    `Run \`${cell(receipt.run)}\`, ${receipt.events} events, digest \`${cell(receipt.events_digest.slice(0, 16))}\`.`,
    '',
  );
  return bounded(lines.join('\n'));
}

export function summaryOfRefusal({ code, message, remedy }: Refusal): string {
  return bounded(
    `### ✗ refused: ${cell(code)}\n\n${message.split('\n').map(cell).join('<br>\n')}\n\n${cell(remedy)}\n`,
  );
}

/** Plain text in Markdown: no markup, no HTML, no new cell and no mention. */
function cell(text: string): string {
  return text
    .slice(0, 2000)
    .replace(/\s+/g, ' ')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('@', '@\u200b')
    .replace(/[\\`*_{}[\]()#+!|~]/g, char => `\\${char}`);
}

function bounded(text: string): string {
  return text.length <= MAX_CHARACTERS ? text : `${text.slice(0, MAX_CHARACTERS)}\n\n(cut)\n`;
}
