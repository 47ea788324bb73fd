import { createHash } from 'node:crypto';
import type { Deployment } from '../../protocol/command.ts';
import type { Plan } from './plan.ts';

/** Returns the digest that reviewers approve: hex of SHA-256 over each document's intent, title and changes, and the shipped files. */
export function digestOfPlans(
  { intents, files }: Pick<Deployment, 'intents' | 'files'>,
  plans: readonly Plan[],
): string {
  const hash = createHash('sha256');
  for (const [index, { intent }] of intents.entries()) {
    const { changes = [], title = '' } = plans[index] ?? {};
    hash.update(`${JSON.stringify({ intent, title, changes })}\n`);
  }
  for (const { stack, path, mode, sha256 } of files) hash.update(`${JSON.stringify([stack, path, mode, sha256])}\n`);
  return hash.digest('hex');
}
