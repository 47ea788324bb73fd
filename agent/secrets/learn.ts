import { join } from 'node:path';
import type { Admitted } from '../admission/admitted.ts';
import { stackOf } from '../runs/receipt.ts';
import { shippedFor, shippedPath } from '../steps/run-folder.ts';
import type { Redactor } from '../system/redactor.ts';
import { findSecrets, looksSecret } from './stack-secrets.ts';

/** What is secret on this host whatever the stack is, and names in env files whose values may be told. */
export interface HostSecrets {
  own: string[];
  shown: string[];
  stacksRoot: string;
}

/** Teaches the redactor what a run must not tell. Returns what is amiss with the files in which that stands, a line each. */
export async function learnSecrets(
  redactor: Redactor,
  admitted: Admitted,
  { own, shown, stacksRoot }: HostSecrets,
  runDir: string,
): Promise<string[]> {
  const { command, documents } = admitted;
  for (const value of own) redactor.add(value);
  for (const [name, value] of Object.entries(command.params)) if (looksSecret(name)) redactor.add(String(value));
  // A dry run answers from nothing.
  if (command.dry_run) return [];
  const warnings: string[] = [];
  for (const [stack, intent] of new Map(documents.map(one => [stackOf(one.document.intent), one.document.intent]))) {
    if (stack === '') continue;
    const folder = join(stacksRoot, stack);
    const shipped = shippedFor(admitted, intent);
    const places = new Map(shipped.map(({ path, sha256 }) => [join(folder, path), shippedPath(runDir, sha256)]));
    const found = await findSecrets(folder, places, shown);
    for (const value of found.values) redactor.add(value);
    warnings.push(...found.warnings);
  }
  return warnings;
}
