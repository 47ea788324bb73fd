import { readFileSync } from 'node:fs';
import { validateFiles } from '../../../intents/validate.ts';
import type { Arguments, Options } from '../commands.ts';

/** Checks files of intents; prints one line for each document. */
export function validateCommand([paths]: Arguments<'validate'>, { json }: Options<'validate'>): number {
  const { lines, problems, documents } = validateFiles(paths.map(file => ({ file, text: readFileSync(file, 'utf8') })));
  if (json) console.log(JSON.stringify({ valid: problems.length === 0, documents, problems }, null, 2));
  else for (const line of lines) console.log(line);
  return problems.length === 0 ? 0 : 1;
}
