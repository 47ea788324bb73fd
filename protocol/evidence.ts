import type { Label, Review } from './command.ts';

/** What of a pull request the evidence is made from, as GitHub's REST API names it. */
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
 * The labels as they stood when the pull request was merged. Only the order of the timeline counts, never a date: dates of
 * commits are written by whoever made them. Nothing after the merge counts.
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
        for (const one of labels.values()) one.after_last_push = false;
        break;
      case 'merged':
        return [...labels.values()];
    }
  }
  return [...labels.values()];
}

/** Who approves: each person's last word counts, and a comment is none. */
export function approvalsOf(reviews: ReviewEntry[], head: string): Omit<Review, 'permission'>[] {
  const words = new Map<string, { state: string; on_head: boolean }>();
  for (const { state, user, commit_id } of reviews) {
    if (!user || !['APPROVED', 'CHANGES_REQUESTED', 'DISMISSED'].includes(state)) continue;
    words.set(user.login, { state, on_head: commit_id === head });
  }
  return [...words].flatMap(([by, { state, on_head }]) => (state === 'APPROVED' ? [{ by, on_head }] : []));
}

const PERMISSIONS = ['admin', 'maintain', 'write', 'triage', 'read', 'none'] as const;

/** A permission as GitHub names it; what is not known counts as none. */
export function parsePermission(told: string): Label['permission'] {
  return PERMISSIONS.find(known => known === told) ?? 'none';
}
