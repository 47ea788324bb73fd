import type { Approval } from '../../protocol/command.ts';
import type { PolicyCase } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { TrustEntry } from '../config/trust.ts';
import { refusals } from '../refusals.ts';
import { evaluateRules, type PolicyDecision } from './rules.ts';

/** Returns the decision of the policy for a supposed command. Throws `Refused` if the entry does not exist. */
export function simulatePolicy(supposed: PolicyCase, trust: readonly TrustEntry[]): PolicyDecision {
  const entry = trust.find(({ name }) => name === supposed.entry);
  if (!entry)
    throw new Refused(
      refusals.entryUnknown(
        supposed.entry,
        trust.map(({ name }) => name),
      ),
    );
  const input = {
    event: supposed.event,
    approval: supposed.merged ? evidenceFor(supposed) : null,
    readOnly: false,
    at: supposed.at === undefined ? new Date() : new Date(supposed.at),
    ...(supposed.plan_digest ? { planDigest: '0'.repeat(64) } : {}),
  };
  return evaluateRules(supposed.intent, input, entry);
}

/** Makes valid labels and approvals; a simulation does not cover early labels or labels by unauthorized users. */
function evidenceFor({ labels, approvals }: PolicyCase): Approval {
  return {
    pull_request: 1,
    head_sha: '1'.repeat(40),
    merge_sha: '2'.repeat(40),
    merged_by: 'octocat',
    labels: labels.map(name => ({ name, by: 'octocat', permission: 'write', at: '', after_last_push: true })),
    approvals: Array.from({ length: approvals }, (_, index) => ({
      by: `reviewer-${index + 1}`,
      permission: 'write',
      on_head: true,
    })),
  };
}
