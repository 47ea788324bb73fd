import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { validateFiles } from '../../intents/validate.ts';
import { cliRefusals } from './refusals.ts';

export function validateCommand(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false } },
  });
  if (positionals.length === 0) {
    throw cliRefusals.wrongCall('usage: chatops validate FILE… [--json]');
  }
  const files = positionals.map(file => ({ file, text: readFileSync(file, 'utf8') }));
  const { lines, problems, documents } = validateFiles(files);
  if (values.json) console.log(JSON.stringify({ valid: problems.length === 0, documents, problems }, null, 2));
  else for (const line of lines) console.log(line);
  return problems.length === 0 ? 0 : 1;
}
