import { readConfig } from '../../config/load.ts';
import type { Arguments, Options } from '../commands.ts';

/** Reads an agent.yaml and prints what it configures. */
export function configCheckCommand([file]: Arguments<'config check'>, { json }: Options<'config check'>): number {
  const { agent, trust } = readConfig(file);
  if (json) console.log(JSON.stringify({ file, agent, entries: trust.map(({ name }) => name) }));
  else console.log(`✓ ${file}: agent "${agent}", ${trust.length} trust ${trust.length === 1 ? 'entry' : 'entries'}`);
  return 0;
}
