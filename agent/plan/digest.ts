import { createHash, createHmac } from 'node:crypto';
import type { Deployment } from '../../protocol/command.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { Plan } from './plan.ts';

/**
 * Returns the digest that reviewers approve: hex of SHA-256 over each document's intent, title, changes and checked configs,
 * and the shipped files. `key`: the agent's key.
 */
export function digestOfPlans(
  { intents, files }: Pick<Deployment, 'intents' | 'files'>,
  plans: readonly Plan[],
  key: SecretKey,
): string {
  const hash = createHash('sha256');
  for (const [index, { intent }] of intents.entries()) {
    const { changes = [], title = '', steps = [] } = plans[index] ?? {};
    const configs = steps.flatMap(step => ('config' in step ? [hide(step.config.sha256, key)] : []));
    hash.update(`${JSON.stringify({ intent, title, changes, configs })}\n`);
  }
  for (const { stack, path, mode, sha256 } of files) hash.update(`${JSON.stringify([stack, path, mode, sha256])}\n`);
  return hash.digest('hex');
}

/** A config has the values of secrets, and the digest is published: without the key, a guess of a value can't be tested. */
function hide(sha256: string, { key }: SecretKey): string {
  const secret = key.export({ format: 'der', type: 'pkcs8' });
  return createHmac('sha256', secret).update(`checked config ${sha256}`).digest('hex');
}
