import type { Approval } from './command.ts';
import type { Refusal } from './refusal.ts';

const MAY_APPROVE = new Set(['admin', 'maintain', 'write']);

/**
 * Why a label does not count, or undefined where it does: it must have been set after the last push by somebody who may
 * write, on every pull request of the evidence. The action asks early, so that a hopeless command makes no connection; the
 * host asks again.
 */
export function checkLabel(approval: Approval, wanted: string): Refusal | undefined {
  for (const { labels, pull_request } of [approval, ...(approval.with ?? [])]) {
    const label = labels.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
    if (!label) {
      return {
        code: 'label-missing',
        message: `Pull request #${pull_request} did not bear the label "${wanted}" when it was merged.`,
        remedy: 'Set the label on a pull request before it is merged.',
      };
    }
    if (!label.after_last_push) {
      return {
        code: 'label-early',
        message: `On pull request #${pull_request} the label "${wanted}" was set before the last push.`,
        remedy: 'Remove the label and set it again after looking at the last push.',
      };
    }
    if (!MAY_APPROVE.has(label.permission)) {
      return {
        code: 'label-by-unauthorized',
        message: `On pull request #${pull_request} the label "${wanted}" was set by ${label.by}, who may not write to the repository.`,
        remedy: 'Let somebody with write, maintain or admin set the label.',
      };
    }
  }
  return undefined;
}

/** Why a merge has not been approved by enough people, or undefined where it has: on every pull request of the evidence. */
export function checkApprovals(approval: Approval, wanted: number): Refusal | undefined {
  for (const { approvals = [], pull_request } of [approval, ...(approval.with ?? [])]) {
    const people = new Set(
      approvals.filter(one => one.on_head && MAY_APPROVE.has(one.permission)).map(({ by }) => by.toLowerCase()),
    );
    if (people.size >= wanted) continue;
    return {
      code: 'approvals-missing',
      message: `Pull request #${pull_request} was merged with ${people.size} of ${wanted} approvals of its last commit by people who may write to the repository.`,
      remedy: 'Have it reviewed after the last push and before it is merged.',
    };
  }
  return undefined;
}
