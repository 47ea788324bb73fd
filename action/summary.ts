import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import { mark, shortImage } from './report.ts';

/** GitHub drops a summary of more than 1 MiB whole; this leaves room for other steps' escaping. */
const MAX_CHARACTERS = 200_000;

/** The job summary of a run: steps with outcome and duration, images before and after. Markdown; everything told is escaped. */
export function summaryOf(receipt: Receipt): string {
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
