import { markOf, shortImage } from '../client/render-event.ts';
import { type DocumentOutcome, formatDocumentLabel, graphMermaid } from '../intents/graph.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import type { CommandResult } from './orchestrate.ts';
import type { Preview } from './preview.ts';
import type { WaitingChange } from './waiting.ts';

/** GitHub drops a whole summary of more than 1 MiB. This limit leaves room for escaping. */
const MAX_CHARACTERS = 200_000;

/** The most runs that are shown in full. If there are more, only those that did not succeed are shown. */
const MOST_IN_FULL = 20;

/** The documents, their outcomes, and the result on each host. */
export interface GraphSummary {
  documents: LoadedIntent[];
  ended: readonly (DocumentOutcome | undefined)[];
  sent: readonly CommandResult[];
}

/** Returns the graph as a picture, and a row for each command if there are several. */
export function summaryOfGraph({ documents, ended, sent }: GraphSummary): string {
  const lines: string[] = [];
  if (documents.length > 1) lines.push('```mermaid', graphMermaid(documents, ended), '```', '');
  if (sent.length > 1) {
    lines.push('| host | documents | outcome |', '|---|---|---|');
    for (const { host, places, receipt, refusal } of sent) {
      const labels = places.map(place => formatDocumentLabel(documents[place] as LoadedIntent)).join(', ');
      const outcome = receipt?.outcome ?? `refused: ${refusal?.code ?? ''}`;
      lines.push(`| ${cell(host || (receipt?.agent ?? ''))} | ${cell(labels)} | ${markOf(outcome)} ${cell(outcome)} |`);
    }
    lines.push('');
  }
  return bounded(lines.join('\n'));
}

/** Returns the job summaries of runs. */
export function summariesOf(receipts: readonly Receipt[]): string[] {
  const isShown = ({ outcome }: Receipt) => receipts.length <= MOST_IN_FULL || markOf(outcome) === '✗';
  return receipts.filter(isShown).slice(0, MOST_IN_FULL).map(summaryOf);
}

/** Returns the job summary of a run as Markdown: steps with outcome and duration, images before and after. */
function summaryOf(receipt: Receipt): string {
  const lines = [
    `### ${markOf(receipt.outcome)} ${receipt.outcome} on ${cell(receipt.agent)}`,
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
    if (document.baseline !== undefined)
      lines.push(
        `First deployment: the content at \`${cell(document.baseline.slice(0, 8))}\` is the baseline. The evidence is about this event only.`,
        '',
      );
    if (document.steps.length > 0) {
      lines.push('| step | outcome | duration |', '|---|---|---|');
      for (const { name, outcome, ms } of document.steps) {
        lines.push(
          `| ${cell(name)} | ${markOf(outcome)} ${cell(outcome)} | ${outcome === 'skipped' ? '' : `${(ms / 1000).toFixed(1)} s`} |`,
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

/** Returns the summary of a check before the merge. */
export function summaryOfPreview({ number, lines, refusals }: Preview): string {
  const title =
    refusals.length === 0
      ? `### ✓ pull request \\#${number} has the labels of its intents`
      : `### ✗ pull request \\#${number} would be refused: ${refusals.map(({ code }) => cell(code)).join(', ')}`;
  return bounded(`${title}\n\n${lines.map(cell).join('<br>\n')}\n`);
}

/** Returns the summary of the changes that would stop a deployment of a planned commit. */
export function summaryOfWaiting(waiting: readonly WaitingChange[]): string {
  const rows = waiting.map(({ code, message }) => `- **${cell(code)}**: ${cell(message)}`);
  return bounded(`### A deployment would be refused\n\n${rows.join('\n')}\n`);
}

export function summaryOfRefusal({ code, message, remedy }: Refusal): string {
  return bounded(
    `### ✗ refused: ${cell(code)}\n\n${message.split('\n').map(cell).join('<br>\n')}\n\n${cell(remedy)}\n`,
  );
}

/** Escapes text for a table cell: it contains no markup, no HTML, no new cell and no mention. */
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
