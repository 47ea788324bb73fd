import type { Approval } from '../../protocol/command.ts';
import type { PolicyCase } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { TrustEntry } from '../config/trust.ts';
import { refusals } from '../refusals.ts';
import { evaluateRules, type PolicyDecision } from './rules.ts';

/** What the policy would say to an intent under such circumstances. Throws `Refused` where there is no such entry. */
export function simulatePolicy(supposed: PolicyCase, trust: readonly TrustEntry[]): PolicyDecision {
  const entry = trust.find(({ name }) => name === supposed.entry);
  if (!entry)
    throw new Refused(
      refusals.entryUnknown(
        supposed.entry,
        trust.map(({ name }) => name),
      ),
    );
  const facts = {
    event: supposed.event,
    approval: supposed.merged ? evidenceFor(supposed) : null,
    looksOnly: false,
    at: supposed.at === undefined ? new Date() : new Date(supposed.at),
    ...(supposed.plan_digest ? { planDigest: '0'.repeat(64) } : {}),
  };
  return evaluateRules(supposed.intent, facts, entry);
}

/** Labels and approvals as they are wanted: what a rule says to late or foreign ones, the refusals tell. */
function evidenceFor({ labels, approvals }: PolicyCase): Approval {
  return {
    pull_request: 1,
    head_sha: '1'.repeat(40),
    merge_sha: '2'.repeat(40),
    merged_by: 'somebody',
    labels: labels.map(name => ({ name, by: 'somebody', permission: 'write', at: '', after_last_push: true })),
    approvals: Array.from({ length: approvals }, (_, index) => ({
      by: `reviewer-${index + 1}`,
      permission: 'write',
      on_head: true,
    })),
  };
}
