import { readFile } from 'node:fs/promises';
import type { Plan } from '../plan/plan.ts';
import type { Redactor } from '../system/redactor.ts';
import { findSecrets, listRenderedSecrets, looksSecret } from './stack-secrets.ts';

/** A stack's folder. `shipped` maps the final path of each file that the run will write there to the path of its content now. */
export interface StackFolder {
  path: string;
  shipped: Map<string, string>;
}

/** The sources of a run's secrets. `own`: the agent's secrets; `shown`: names in env files whose values may be logged. */
export interface SecretSources {
  own: string[];
  shown: string[];
  params: Record<string, string | number | boolean>;
  stacks: StackFolder[];
}

/** Adds every secret of a run to the redactor. Returns one warning per file that could not be read. */
export async function addRunSecrets(
  redactor: Redactor,
  { own, shown, params, stacks }: SecretSources,
): Promise<string[]> {
  for (const value of own) redactor.add(value);
  for (const [name, value] of Object.entries(params)) if (looksSecret(name)) redactor.add(String(value));
  const warnings: string[] = [];
  for (const { path, shipped } of stacks) {
    const found = await findSecrets(path, shipped, shown);
    for (const value of found.values) redactor.add(value);
    warnings.push(...found.warnings);
  }
  return warnings;
}

/** Adds the secrets of a plan's checked compose configs to the redactor. The steps report a file that can't be read. */
export async function addConfigSecrets(redactor: Redactor, { steps, undo }: Plan): Promise<void> {
  const files = new Set([...steps, ...undo].flatMap(step => (step.do === 'prepare-mounts' ? [step.config.file] : [])));
  for (const file of files) {
    for (const value of await readSecrets(file)) redactor.add(value);
  }
}

async function readSecrets(file: string): Promise<string[]> {
  try {
    return listRenderedSecrets(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return [];
  }
}
