import { z } from 'zod';

/** The fields of GitHub's REST API that the evidence is created from. An answer without them is refused, not guessed. */

const Sha = z.string().regex(/^[0-9a-f]{40}$|^[0-9a-f]{64}$/);
const Time = z.iso.datetime({ offset: true });
/** An account that was deleted is null. */
const Account = z.object({ login: z.string() }).nullish();

export const PullRequest = z.object({
  number: z.int().positive(),
  html_url: z.string().optional(),
  merged_at: Time.nullable(),
  merge_commit_sha: Sha.nullable(),
  /** Not in lists of pull requests. */
  merged_by: Account,
  /** `repo` is null if the head's repository was deleted, or is hidden from the token. */
  head: z.object({ sha: Sha, ref: z.string(), repo: z.object({ full_name: z.string() }).nullable() }),
  base: z.object({ ref: z.string(), repo: z.object({ full_name: z.string() }) }),
});
export type PullRequest = z.infer<typeof PullRequest>;

const Labelling = z.object({
  event: z.enum(['labeled', 'unlabeled']),
  label: z.object({ name: z.string() }),
  actor: Account,
  created_at: Time,
});
const Committed = z.object({ event: z.literal('committed'), sha: Sha });
const Moved = z.object({
  event: z.enum(['head_ref_force_pushed', 'base_ref_changed', 'automatic_base_change_succeeded', 'merged']),
  actor: Account,
  created_at: Time,
});
const READ = new Set<string>([...Labelling.shape.event.options, 'committed', ...Moved.shape.event.options]);
const Unread = z.object({ event: z.string().refine(event => !READ.has(event)) });

/** An entry of a pull request's timeline, in the server's order: entries of commits are placed by the committer's date. */
export const TimelineEntry = z.union([Labelling, Committed, Moved, Unread]);
export type TimelineEntry = z.infer<typeof TimelineEntry>;

/** Returns true for the entries that the evidence depends on. */
export function isRead(
  entry: TimelineEntry,
): entry is z.infer<typeof Labelling> | z.infer<typeof Committed> | z.infer<typeof Moved> {
  return READ.has(entry.event);
}

/** A review, in the server's order. One that is not submitted yet has no time. */
export const ReviewEntry = z.object({
  state: z.string(),
  user: Account,
  commit_id: z.string().nullish(),
  submitted_at: Time.nullish(),
});
export type ReviewEntry = z.infer<typeof ReviewEntry>;

/** A change of a branch, with the server's time of it. */
export const ActivityEntry = z.object({
  ref: z.string(),
  before: z.string(),
  after: z.string(),
  timestamp: Time,
  activity_type: z.string(),
});
export type ActivityEntry = z.infer<typeof ActivityEntry>;

/** A file of a change. A renamed file has its earlier name too. */
export const PullFile = z.object({ filename: z.string(), previous_filename: z.string().nullish() });

export const Comparison = z.object({
  status: z.enum(['ahead', 'behind', 'diverged', 'identical']),
  total_commits: z.int().nonnegative(),
  commits: z.array(
    z.object({
      sha: Sha,
      commit: z.object({ message: z.string() }),
      parents: z.array(z.object({ sha: Sha })),
    }),
  ),
  /** Only on the first page, with at most 300 files. */
  files: z.array(PullFile).optional(),
});

export const Reference = z.object({ object: z.object({ sha: Sha }) });

export const GitCommit = z.object({ sha: Sha });

/** `role_name` has the roles that `permission` maps to `write` and `read`, such as `maintain` and `triage`. */
export const Collaborator = z.object({ permission: z.string(), role_name: z.string().nullish() });

export const RepositoryInfo = z.object({ default_branch: z.string() });
