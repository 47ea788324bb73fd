import { parseArgs } from 'node:util';
import { readConfig } from '../config/load.ts';
import { cliRefusals } from './refusals.ts';

export function configCommand(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false } },
  });
  const [verb, file] = positionals;
  if (verb !== 'check' || file === undefined) {
    throw cliRefusals.wrongCall('usage: chatops config check FILE [--json]');
  }
  const { agent, trust } = readConfig(file);
  if (values.json) console.log(JSON.stringify({ file, agent, entries: trust.map(({ name }) => name) }));
  else console.log(`✓ ${file}: agent "${agent}", ${trust.length} trust ${trust.length === 1 ? 'entry' : 'entries'}`);
  return 0;
}
