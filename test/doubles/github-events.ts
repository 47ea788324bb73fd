type Actor = { login: string } | null;

/** Entries of a timeline as `GET /repos/…/issues/N/timeline` documents them, with the fields that are read. */
export type Entry =
  | { event: 'labeled' | 'unlabeled'; label: { name: string }; actor: Actor; created_at: string }
  | { event: 'committed'; sha: string; committer?: { date: string } }
  | {
      event: 'head_ref_force_pushed' | 'merged' | 'base_ref_changed' | 'automatic_base_change_succeeded';
      actor: Actor;
      created_at: string;
    };

/** A change of a branch as `GET /repos/…/activity` documents it, without the repository's branch. */
export interface Push {
  after: string;
  timestamp: string;
  activity_type: string;
}

export interface Pull {
  number: number;
  merged: boolean;
  mergedAt: string;
  mergeSha: string;
  headSha: string;
  headRef: string;
  base: string;
  /** Owner/name of the head's repository; null if it was deleted. */
  from: string | null;
  timeline: Entry[];
  /** The activity of the head's branch, in any order. */
  pushes: Push[];
  reviews: { state: string; user: Actor; commit_id: string; submitted_at?: string }[];
  files: string[];
  /** Commits that GitHub's index lists for this pull request. */
  commits: string[];
}

/** The times of the defaults: the head is pushed an hour before the label is set and the pull request is merged. */
export const PUSHED_AT = '2026-11-20T11:00:00Z';
export const AT = '2026-11-20T12:00:00Z';
/** Shorthands for timelines. */
export const labeled = (name: string, login: string | null = 'octocat', at = AT): Entry => ({
  event: 'labeled',
  label: { name },
  actor: login === null ? null : { login },
  created_at: at,
});
export const unlabeled = (name: string, login = 'octocat', at = AT): Entry => ({
  event: 'unlabeled',
  label: { name },
  actor: { login },
  created_at: at,
});
/** With a committer's date the entry is listed by that date, wherever it stands here. */
export const committed = (sha: string, date?: string): Entry => ({
  event: 'committed',
  sha,
  ...(date === undefined ? {} : { committer: { date } }),
});
const moved = (event: 'head_ref_force_pushed' | 'merged' | 'base_ref_changed' | 'automatic_base_change_succeeded') => {
  return (login: string | null = 'octocat', at = AT): Entry => ({
    event,
    actor: login === null ? null : { login },
    created_at: at,
  });
};
export const forcePushed = moved('head_ref_force_pushed');
export const merged = moved('merged');
export const baseChanged = moved('base_ref_changed');
export const baseChangedByGitHub = moved('automatic_base_change_succeeded');
export const pushed = (after: string, timestamp = PUSHED_AT, activity_type = 'push'): Push => ({
  after,
  timestamp,
  activity_type,
});

/** Returns the payload of a push event with the fields that the action reads. */
export function pushEvent(repository: string, before: string, after: string, changes: object = {}): object {
  return {
    ref: 'refs/heads/main',
    before,
    after,
    created: false,
    deleted: false,
    forced: false,
    repository: { id: 7001, full_name: repository, default_branch: 'main' },
    ...changes,
  };
}

/** Returns the payload of a pull_request event, by default with the action `closed`. */
export function pullRequestEvent(repository: string, pull: Pull, changes: { action?: string } = {}): object {
  return {
    action: changes.action ?? 'closed',
    number: pull.number,
    pull_request: {
      number: pull.number,
      merged: pull.merged,
      merge_commit_sha: pull.mergeSha,
      head: {
        sha: pull.headSha,
        ref: pull.headRef,
        repo: pull.from === null ? null : { id: pull.from === repository ? 7001 : 7002, full_name: pull.from },
      },
      base: { ref: pull.base, repo: { id: 7001, full_name: repository } },
    },
    repository: { id: 7001, full_name: repository, default_branch: 'main' },
  };
}
