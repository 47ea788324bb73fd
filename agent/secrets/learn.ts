import { readFile } from 'node:fs/promises';
import type { HostReader, Plan } from '../plan/plan.ts';
import type { Redactor } from '../system/redactor.ts';
import { listSecretFiles, listSecrets, type SecretNames } from './config-secrets.ts';
import { looksSecret } from './likely-secret.ts';
import { findSecrets, readSmallText } from './stack-secrets.ts';

/** A stack's folder. `shipped` maps the final path of each file that the run will write there to the path of its content now. */
export interface StackFolder {
  path: string;
  shipped: Map<string, string>;
}

/** The sources of a run's secrets. `own`: the agent's secrets. */
export interface SecretSources {
  own: readonly string[];
  names: SecretNames;
  params: Record<string, string | number | boolean>;
  stacks: StackFolder[];
}

/** Adds every secret of a run to the redactor. Returns one warning per value that compose changes. */
export async function addRunSecrets(
  redactor: Redactor,
  { own, names, params, stacks }: SecretSources,
): Promise<string[]> {
  for (const value of own) redactor.add(value);
  for (const [name, value] of Object.entries(params))
    if (looksSecret(name)) redactor.add({ value: String(value), names: [name] });
  const warnings: string[] = [];
  for (const { path, shipped } of stacks) {
    const found = await findSecrets(path, shipped, names);
    for (const secret of found.secrets) redactor.add(secret);
    warnings.push(...found.warnings);
  }
  return warnings;
}

/** Returns a host reader that adds the secrets of each config that it renders. */
export function learningReader(host: HostReader, redactor: Redactor, names: SecretNames): HostReader {
  return {
    ...host,
    async render(request) {
      const rendered = await host.render(request);
      if (rendered) await addConfigSecrets(redactor, rendered.config, names);
      return rendered;
    },
  };
}

/** Adds the secrets of the rendered configs that a stored plan uses. A config that is gone starts nothing either. */
export async function addPlanSecrets(redactor: Redactor, plan: Plan, names: SecretNames): Promise<void> {
  const steps = [...plan.steps, ...plan.undo, ...plan.cleanup, ...(plan.late ?? [])];
  for (const file of new Set(steps.flatMap(step => (step.do === 'prepare-mounts' ? [step.config.file] : [])))) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text !== undefined) await addConfigSecrets(redactor, JSON.parse(text), names);
  }
}

/** Adds the secrets of a rendered config, also those in the files that it names. */
async function addConfigSecrets(redactor: Redactor, config: unknown, names: SecretNames): Promise<void> {
  for (const secret of listSecrets(config, names)) redactor.add(secret);
  for (const file of listSecretFiles(config)) redactor.add((await readSmallText(file))?.trim() ?? '');
}
