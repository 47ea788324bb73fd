import type { Approval } from './command.ts';
import type { Refusal } from './refusal.ts';

const MAY_APPROVE = new Set(['admin', 'maintain', 'write']);

/**
 * Why a label does not count, or undefined where it does: it must have been set after the last push by somebody who may
 * write, on every pull request of the evidence. The action asks early, so that a hopeless command makes no connection; the
 * host asks again.
 */
export function judgeLabel(approval: Approval, wanted: string): Refusal | undefined {
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
