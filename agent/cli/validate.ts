import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { validateFiles } from '../../intents/validate.ts';

export function validate(args: string[]): number {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  if (positionals.length === 0) {
    process.stderr.write('usage: chatops validate FILE…\n');
    return 2;
  }
  const { lines, problems } = validateFiles(positionals.map(file => ({ file, text: readFileSync(file, 'utf8') })));
  for (const line of lines) console.log(line);
  return problems.length === 0 ? 0 : 1;
}
