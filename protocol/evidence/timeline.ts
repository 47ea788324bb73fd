import type { Label, Review } from '../command.ts';
import { type ActivityEntry, isRead, type PullRequest, type ReviewEntry, type TimelineEntry } from './answers.ts';

/** A label counts if it was set at least this long after the last push, in milliseconds. */
const LABEL_MARGIN_MS = 5_000;

/** The last push of the head, by the time of GitHub's server; or the reason why GitHub does not show it. */
export type LastPush = { at: string } | { unproven: string };

type FoundLabel = Omit<Label, 'permission'>;

/**
 * Returns the labels of the pull request at its merge. Entries after the merge do not count. A label is after the last push
 * only if both the order of the timeline and the time of the push say so: the author of a commit chooses its date, and the
 * timeline lists commits by that date.
 */
export function labelsAtMerge(timeline: TimelineEntry[], head: string, push: LastPush): FoundLabel[] {
  return labelsInOrder(timeline).map(label => (label.after_last_push ? checkTime(label, head, push) : label));
}

function labelsInOrder(timeline: TimelineEntry[]): FoundLabel[] {
  const labels = new Map<string, FoundLabel>();
  const invalidate = (doubt: string) => {
    for (const label of labels.values()) {
      label.after_last_push = false;
      label.doubt = doubt;
    }
  };
  for (const entry of timeline) {
    if (!isRead(entry)) continue;
    switch (entry.event) {
      case 'labeled':
        labels.set(entry.label.name, {
          name: entry.label.name,
          by: entry.actor?.login ?? '',
          at: entry.created_at,
          after_last_push: true,
        });
        break;
      case 'unlabeled':
        labels.delete(entry.label.name);
        break;
      case 'committed':
        invalidate(`the commit ${entry.sha.slice(0, 8)} follows it in the timeline`);
        break;
      case 'head_ref_force_pushed':
        invalidate(`the branch was force-pushed at ${entry.created_at}`);
        break;
      case 'base_ref_changed':
      case 'automatic_base_change_succeeded':
        invalidate(`the base branch was changed at ${entry.created_at}`);
        break;
      case 'merged':
        return [...labels.values()];
    }
  }
  return [...labels.values()];
}

function checkTime(label: FoundLabel, head: string, push: LastPush): FoundLabel {
  if ('unproven' in push) return { ...label, after_last_push: false, unproven: true, doubt: push.unproven };
  const margin = Date.parse(label.at) - Date.parse(push.at);
  if (margin > LABEL_MARGIN_MS) return label;
  const seconds = LABEL_MARGIN_MS / 1000;
  const doubt = `the commit ${head.slice(0, 8)} was pushed at ${push.at}${margin > 0 ? `, and a label counts only if it is more than ${seconds} s younger` : ''}`;
  return { ...label, after_last_push: false, doubt };
}

/**
 * Returns the last push of the head. It is proven if the timeline lists the head's commit, and if the newest activity of the
 * head's branch before the merge ends at this commit: an older entry would not exclude a push in between. `activity` is in
 * the server's order, newest first; undefined if GitHub does not show it.
 */
export function lastPushOf(
  { head, merged_at }: PullRequest,
  timeline: TimelineEntry[],
  activity: ActivityEntry[] | undefined,
): LastPush {
  if (!timeline.some(entry => isRead(entry) && entry.event === 'committed' && entry.sha === head.sha))
    return { unproven: `the timeline does not list the last commit ${head.sha.slice(0, 8)}` };
  if (!activity) return { unproven: 'GitHub does not show the activity of its branch' };
  const newest = activity.find(entry => isBeforeMerge(entry, merged_at));
  if (!newest) return { unproven: 'the activity of its branch has no push before the merge' };
  if (newest.after !== head.sha)
    return { unproven: `the newest push of its branch is not its last commit ${head.sha.slice(0, 8)}` };
  return { at: newest.timestamp };
}

/** Returns true if an activity changed the head before the merge. After the merge a branch may be deleted or used again. */
export function isBeforeMerge({ activity_type, timestamp }: ActivityEntry, mergedAt: string | null): boolean {
  return activity_type !== 'branch_deletion' && (mergedAt === null || Date.parse(timestamp) <= Date.parse(mergedAt));
}

/** Lists the approvals at the merge: the last review of each person before it counts, comments do not. */
export function approvalsOf(
  reviews: ReviewEntry[],
  { head, merged_at }: Pick<PullRequest, 'head' | 'merged_at'>,
): Omit<Review, 'permission'>[] {
  const lastReviews = new Map<string, { state: string; on_head: boolean }>();
  for (const { state, user, commit_id, submitted_at } of reviews) {
    if (!user || !submitted_at || !['APPROVED', 'CHANGES_REQUESTED', 'DISMISSED'].includes(state)) continue;
    if (merged_at !== null && Date.parse(submitted_at) > Date.parse(merged_at)) continue;
    lastReviews.set(user.login, { state, on_head: commit_id === head.sha });
  }
  return [...lastReviews].flatMap(([by, { state, on_head }]) => (state === 'APPROVED' ? [{ by, on_head }] : []));
}

const PERMISSIONS = ['admin', 'maintain', 'write', 'triage', 'read', 'none'] as const;

/** Parses a permission of GitHub. An unknown one counts as none. */
export function parsePermission(permission: string): Label['permission'] {
  return PERMISSIONS.find(known => known === permission) ?? 'none';
}
