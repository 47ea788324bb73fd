import type { Label, Review } from './command.ts';

/** The fields of a pull request that the evidence is created from, as GitHub's REST API names them. */
export interface PullRequest {
  number: number;
  merged_at: string | null;
  merge_commit_sha: string | null;
  merged_by?: { login: string } | null;
  head: { sha: string };
  base: { ref: string; repo: { full_name: string } };
}

/** An entry of a pull request's timeline, in the server's order. */
export interface TimelineEntry {
  event: string;
  label?: { name: string };
  actor?: { login: string } | null;
  created_at?: string;
}

/** A review, in the server's order. */
export interface ReviewEntry {
  state: string;
  user?: { login: string } | null;
  commit_id?: string | null;
}

/**
 * The labels of the pull request at its merge. Only the order of the timeline counts, never a date: the author of a commit
 * can choose its date. Entries after the merge do not count.
 */
export function labelsAtMerge(timeline: TimelineEntry[]): Omit<Label, 'permission'>[] {
  const labels = new Map<string, Omit<Label, 'permission'>>();
  for (const { event, label, actor, created_at } of timeline) {
    switch (event) {
      case 'labeled':
        if (label)
          labels.set(label.name, {
            name: label.name,
            by: actor?.login ?? '',
            at: created_at ?? '',
            after_last_push: true,
          });
        break;
      case 'unlabeled':
        if (label) labels.delete(label.name);
        break;
      case 'committed':
      case 'head_ref_force_pushed':
      case 'base_ref_changed':
        for (const previous of labels.values()) previous.after_last_push = false;
        break;
      case 'merged':
        return [...labels.values()];
    }
  }
  return [...labels.values()];
}

/** Lists the approvals: the last review of each person counts, comments do not. */
export function approvalsOf(reviews: ReviewEntry[], head: string): Omit<Review, 'permission'>[] {
  const lastReviews = new Map<string, { state: string; on_head: boolean }>();
  for (const { state, user, commit_id } of reviews) {
    if (!user || !['APPROVED', 'CHANGES_REQUESTED', 'DISMISSED'].includes(state)) continue;
    lastReviews.set(user.login, { state, on_head: commit_id === head });
  }
  return [...lastReviews].flatMap(([by, { state, on_head }]) => (state === 'APPROVED' ? [{ by, on_head }] : []));
}

const PERMISSIONS = ['admin', 'maintain', 'write', 'triage', 'read', 'none'] as const;

/** Parses a permission of GitHub. An unknown one counts as none. */
export function parsePermission(permission: string): Label['permission'] {
  return PERMISSIONS.find(known => known === permission) ?? 'none';
}
