import type { Intent } from '../../intents/intent.ts';
import type { Approval } from '../../protocol/command.ts';
import type { PolicyCase } from '../../protocol/question.ts';
import { type Refusal, Refused } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import { siteOf } from '../config/site.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { HostSite } from '../executors/executor.ts';
import { executors } from '../executors/index.ts';
import { refusals } from '../refusals.ts';
import { checkClaims } from './check-command.ts';
import { evaluateRules, type PolicyDecision, type PolicyInput } from './rules.ts';
import { findTouchedStacks, type StackEvidence, supposeContainers } from './touched-stacks.ts';

/**
 * Returns the decision of the policy about each supposed command: by the rules, the evidence and the check of paths with
 * which `Admission` decides about a real one. Throws `Refused` if an entry does not exist.
 */
export async function simulatePolicy(
  cases: readonly PolicyCase[],
  config: Config,
  host: StackEvidence,
): Promise<PolicyDecision[]> {
  const site = siteOf(config);
  // One search asks the engine once for all cases that are about the real host.
  const real = cases.filter(({ containers }) => containers === undefined);
  const found = await findTouchedStacks(
    real.map(({ intent }) => intent),
    site,
    host,
  );
  const decisions: PolicyDecision[] = [];
  for (const supposed of cases) {
    const { intent, containers } = supposed;
    const [stacks = []] =
      containers === undefined
        ? [found[real.indexOf(supposed)]]
        : await findTouchedStacks([intent], site, supposeContainers(containers, site, host));
    const entry = findEntry(supposed.entry, config.trust);
    const decision = evaluateRules(intent, { ...circumstancesOf(supposed, entry), stacks }, entry);
    const refusal = decision.refusal ?? (await findPathRefusal(intent, site));
    decisions.push(refusal ? { refusal, findings: decision.findings } : decision);
  }
  return decisions;
}

async function findPathRefusal(intent: Intent, site: HostSite): Promise<Refusal | undefined> {
  const executor = executors.find(one => one.supports(intent));
  try {
    if (executor) await checkClaims(intent, executor, site);
    return undefined;
  } catch (error) {
    if (error instanceof Refused) return error.refusal;
    throw error;
  }
}

/** Throws `Refused` if the entry does not exist. */
function findEntry(wanted: string, trust: readonly TrustEntry[]): TrustEntry {
  const entry = trust.find(({ name }) => name === wanted);
  if (entry) return entry;
  throw new Refused(
    refusals.entryUnknown(
      wanted,
      trust.map(({ name }) => name),
    ),
  );
}

function circumstancesOf(supposed: PolicyCase, entry: TrustEntry): Omit<PolicyInput, 'stacks'> {
  return {
    event: supposed.event,
    approval: supposed.merged ? approvalOf(supposed) : null,
    readOnly: false,
    isHostRun: entry.local !== undefined,
    at: supposed.at === undefined ? new Date() : new Date(supposed.at),
    ...(supposed.plan_digest ? { planDigest: '0'.repeat(64) } : {}),
  };
}

/** Returns the evidence of a merged pull request with the labels and approvals of the case. */
export function approvalOf({ labels, approvals }: Pick<PolicyCase, 'labels' | 'approvals'>): Approval {
  return {
    pull_request: 1,
    head_sha: '1'.repeat(40),
    merge_sha: '2'.repeat(40),
    merged_by: 'octocat',
    labels: labels.map(label => {
      const { name, early = false, permission = 'write' } = typeof label === 'string' ? { name: label } : label;
      return { name, by: 'octocat', permission, at: '', after_last_push: !early };
    }),
    approvals: Array.from({ length: approvals }, (_, index) => ({
      by: `reviewer-${index + 1}`,
      permission: 'write',
      on_head: true,
    })),
  };
}
