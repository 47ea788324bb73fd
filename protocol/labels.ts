import type { Approval } from './command.ts';
import type { Refusal } from './refusal.ts';

const MAY_APPROVE = new Set(['admin', 'maintain', 'write']);

/**
 * Returns why a label does not count, or undefined if it counts. On every pull request of the evidence, a user with write
 * permission must have set it after the last push. The action checks before it connects; the host checks again.
 */
export function checkLabel(approval: Approval, required: string): Refusal | undefined {
  for (const { labels, pull_request } of [approval, ...(approval.with ?? [])]) {
    const label = labels.find(({ name }) => name.toLowerCase() === required.toLowerCase());
    if (!label) {
      return {
        code: 'label-missing',
        message: `Pull request #${pull_request} did not have the label "${required}" when it was merged.`,
        remedy: 'Set the label on a pull request before you merge it.',
      };
    }
    if (!label.after_last_push) {
      return {
        code: 'label-early',
        message: `On pull request #${pull_request} the label "${required}" was set before the last push.`,
        remedy: 'Review the last push, remove the label and set it again.',
      };
    }
    if (!MAY_APPROVE.has(label.permission)) {
      return {
        code: 'label-by-unauthorized',
        message: `On pull request #${pull_request} the label "${required}" was set by ${label.by}, a user without write permission.`,
        remedy: 'Ask a user with write, maintain or admin permission to set the label.',
      };
    }
  }
  return undefined;
}

/** Returns why a merge does not have enough approvals on every pull request of the evidence, or undefined if it has. */
export function checkApprovals(approval: Approval, required: number): Refusal | undefined {
  for (const { approvals = [], pull_request } of [approval, ...(approval.with ?? [])]) {
    const people = new Set(
      approvals
        .filter(review => review.on_head && MAY_APPROVE.has(review.permission))
        .map(({ by }) => by.toLowerCase()),
    );
    if (people.size >= required) continue;
    return {
      code: 'approvals-missing',
      message: `Pull request #${pull_request} was merged with ${people.size} of ${required} approvals of its last commit by users with write permission.`,
      remedy: 'Get the reviews after the last push and before the merge.',
    };
  }
  return undefined;
}
