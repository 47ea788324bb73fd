import { formatCall } from './command-spec.ts';
import { SHOWN_COMMANDS } from './commands.ts';

const START = '<!-- commands: written by npm run commands -->\n\n';
const END = '\n<!-- /commands -->\n';

/** Returns a page of docs/ with the table of commands between its two marks, padded as the formatter wants it. Throws if it has no marks. */
export function insertCommandTable(page: string): string {
  const [before, rest = ''] = page.split(START);
  const after = rest.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`The page has no "${START.trim()}".`);
  return `${before}${START}${renderTable()}${END}${after}`;
}

function renderTable(): string {
  const rows = SHOWN_COMMANDS.map(command => [
    `\`chatops ${formatCall(command).replaceAll('|', '\\|')}\``,
    `${command.text}${command.page === undefined ? '' : ` ([more](${command.page}))`}`,
  ]);
  const table = [['command', 'what it does'], ...rows];
  const widths = [0, 1].map(column => Math.max(...table.map(row => row[column]?.length ?? 0)));
  const lines = table.map(row => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  const rule = `| ${widths.map(width => '-'.repeat(width)).join(' | ')} |`;
  return `${[lines[0], rule, ...lines.slice(1)].join('\n')}\n`;
}
