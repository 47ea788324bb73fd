import { createHash } from 'node:crypto';
import type { Admitted } from '../admission/admitted.ts';
import type { DocumentEnding } from '../runs/receipt.ts';
import type { Plan } from './plan.ts';

/** What people look at in plans: hex of SHA-256 over each document's intent, its changes and the files that are shipped. */
export function digestOfPlans({ command, documents }: Admitted, plans: readonly Plan[]): string {
  const hash = createHash('sha256');
  for (const [index, { document }] of documents.entries()) {
    const { changes = [], title = '' } = plans[index] ?? {};
    hash.update(`${JSON.stringify({ intent: document.intent, title, changes })}\n`);
  }
  for (const { stack, path, mode, sha256 } of command.files)
    hash.update(`${JSON.stringify([stack, path, mode, sha256])}\n`);
  return hash.digest('hex');
}

export function planChanged(meant: string, is: string): DocumentEnding {
  return {
    outcome: 'failed',
    code: 'plan-changed',
    message: `What would be done is not what was planned: the plan's digest is ${is.slice(0, 16)}…, meant was ${meant.slice(0, 16)}…. Nothing was changed.`,
    remedy: 'Make a new plan (mode: plan), look at it, and deploy with its digest.',
    changed: false,
  };
}
