import { setTimeout as sleep } from 'node:timers/promises';
import type { Evidence } from '../protocol/command.ts';
import { readEvidence } from '../protocol/evidence/gather.ts';
import type { GitHubReader } from '../protocol/evidence/reader.ts';
import { checkLabelOf, reviewersOf } from '../protocol/labels.ts';
import type { Refusal } from '../protocol/refusal.ts';

/** The answer to the question if an open pull request would be admitted if it were merged now. */
export interface Preview {
  number: number;
  lines: string[];
  refusals: Refusal[];
}

/** Checks the labels of an open pull request as a merge would. Returns undefined if it is not open. Throws `Refused`. */
export async function previewApproval(
  number: number,
  wanted: readonly string[],
  github: GitHubReader,
  say: (line: string) => void,
): Promise<Preview | undefined> {
  const pull = await github.pullRequest(number);
  if (!pull || pull.merged_at !== null) return undefined;
  const evidence = await readEvidence(pull, github, { wanted, wait: ms => sleep(ms), say });
  const results = wanted.map(label => ({ label, refusal: checkLabelOf(evidence, label, true) }));
  return {
    number,
    lines: [
      `If pull request #${number} were merged now at ${pull.head.sha.slice(0, 8)}:`,
      ...results.map(({ label, refusal }) =>
        refusal ? `✗ ${refusal.code}: ${refusal.message} ${refusal.remedy}` : `✓ ${describeLabel(evidence, label)}`,
      ),
      describeReviews(evidence),
    ],
    refusals: results.flatMap(({ refusal }) => refusal ?? []),
  };
}

function describeLabel({ labels }: Evidence, wanted: string): string {
  const label = labels.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
  return `the label "${wanted}" was set by ${label?.by} at ${label?.at}, after the last push`;
}

/** The host's policy decides how many reviews it requires. */
function describeReviews(evidence: Evidence): string {
  const reviewers = reviewersOf(evidence);
  const names = reviewers.length > 0 ? ` (${reviewers.join(', ')})` : '';
  return `${reviewers.length > 0 ? '✓' : '·'} approvals of the last commit by users with write permission: ${reviewers.length}${names}`;
}
