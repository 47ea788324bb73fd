import { parseArgs } from 'node:util';
import { readConfig } from '../config.ts';

export function config(args: string[]): number {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [verb, file] = positionals;
  if (verb !== 'check' || file === undefined) {
    process.stderr.write('usage: chatops config check FILE\n');
    return 2;
  }
  const { agent, trust } = readConfig(file);
  console.log(`✓ ${file}: agent "${agent}", ${trust.length} trust ${trust.length === 1 ? 'entry' : 'entries'}`);
  return 0;
}
