import type { Approval, Evidence, Label, Review } from './command.ts';
import type { Refusal } from './refusal.ts';

/** The permissions with which a user may approve. */
export const MAY_APPROVE: ReadonlySet<string> = new Set<Label['permission']>(['admin', 'maintain', 'write']);

/** After the merge a label and a review come too late. */
const REMEDY_AFTER_MERGE =
  'Nothing was deployed. Revert the pull request by a labelled one, then merge the change again with its approval.';

/** The remedies before the merge, when the approval can still be corrected. */
const REMEDIES_BEFORE_MERGE = {
  'label-missing': 'Set the label before you merge.',
  'label-early': 'Review the last push, remove the label and set it again.',
  'label-by-unauthorized': 'Ask a user with write, maintain or admin permission to remove the label and set it again.',
  'label-unproven': 'Ask a user with write permission to approve the last commit in a review.',
};

/**
 * Returns why a label does not count, or undefined if it counts. On every pull request of the evidence, a user with write
 * permission must have set it after the last push. If GitHub does not show the last push, an approving review of the last
 * commit must prove it. The action checks before it connects; the host checks again.
 */
export function checkLabel(approval: Approval, required: string): Refusal | undefined {
  const refused = evidenceOf(approval).flatMap(evidence => {
    const refusal = checkLabelOf(evidence, required);
    return refusal ? [{ evidence, refusal }] : [];
  });
  const [first, ...others] = refused;
  if (!first || others.length === 0) return first?.refusal;
  const names = others.map(({ evidence }) => [`#${evidence.pull_request}`, ...pageOf(evidence)].join(' '));
  return { ...first.refusal, message: `${first.refusal.message} Not approved either: ${names.join(', ')}.` };
}

/** Checks the label of one pull request. `isOpen`: it is not merged yet, so that the remedy can still correct it. */
export function checkLabelOf(evidence: Evidence, required: string, isOpen = false): Refusal | undefined {
  const { labels, pull_request } = evidence;
  const label = labels.find(({ name }) => name.toLowerCase() === required.toLowerCase());
  const refuse = (code: keyof typeof REMEDIES_BEFORE_MERGE, message: string, ...details: string[]): Refusal => ({
    code,
    message: [message, ...details, ...pageOf(evidence)].join(' '),
    remedy: isOpen ? REMEDIES_BEFORE_MERGE[code] : REMEDY_AFTER_MERGE,
  });
  if (!label)
    return refuse(
      'label-missing',
      isOpen
        ? `Pull request #${pull_request} does not have the label "${required}".`
        : `Pull request #${pull_request} did not have the label "${required}" when it was merged.`,
    );
  const setter = label.by === '' ? 'an account that is gone' : label.by;
  const set = `It was set by ${setter}${label.at === '' ? '' : ` at ${label.at}`}`;
  const doubt = label.doubt === undefined ? '.' : `, but ${label.doubt}.`;
  if (!label.after_last_push && !label.unproven)
    return refuse(
      'label-early',
      `On pull request #${pull_request} the label "${required}" was set before the last push.`,
      `${set}${doubt}`,
    );
  if (!MAY_APPROVE.has(label.permission))
    return refuse(
      'label-by-unauthorized',
      `On pull request #${pull_request} the label "${required}" was set by ${setter}, a user without write permission.`,
    );
  if (label.unproven && reviewersOf(evidence).length === 0)
    return refuse(
      'label-unproven',
      `On pull request #${pull_request} GitHub does not show that the label "${required}" was set after the last push.`,
      `${set}${doubt}`,
      'Then only an approving review of the last commit before the merge counts.',
    );
  return undefined;
}

/** Returns why a merge does not have enough approvals on every pull request of the evidence, or undefined if it has. */
export function checkApprovals(approval: Approval, required: number): Refusal | undefined {
  for (const evidence of evidenceOf(approval)) {
    const count = reviewersOf(evidence).length;
    if (count >= required) continue;
    const message = `Pull request #${evidence.pull_request} was merged with ${count} of ${required} approvals of its last commit by users with write permission.`;
    return {
      code: 'approvals-missing',
      message: [message, ...pageOf(evidence)].join(' '),
      remedy: REMEDY_AFTER_MERGE,
    };
  }
  return undefined;
}

/** Lists the users with write permission who approved the last commit. */
export function reviewersOf({ approvals = [] }: Evidence): string[] {
  const isCounted = (review: Review) => review.on_head && MAY_APPROVE.has(review.permission);
  return [...new Set(approvals.filter(isCounted).map(({ by }) => by.toLowerCase()))];
}

function evidenceOf(approval: Approval): Evidence[] {
  return [approval, ...(approval.with ?? [])];
}

function pageOf({ url }: Evidence): string[] {
  return url === undefined ? [] : [url];
}
