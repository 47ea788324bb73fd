import type { Approval, Evidence, Label } from '../command.ts';
import { MAY_APPROVE } from '../labels.ts';
import type { ActivityEntry, PullRequest, TimelineEntry } from './answers.ts';
import type { GitHubReader } from './reader.ts';
import { approvalsOf, isBeforeMerge, type LastPush, labelsAtMerge, lastPushOf, parsePermission } from './timeline.ts';

/** The pauses before GitHub is asked again, in milliseconds: its indexes lag behind a push and a merge. */
export const LAG_PAUSES = [1000, 2000, 4000, 8000] as const;

export interface GatherOptions {
  /** The labels that are required. Another label counts only if the permission of the user who set it is readable. */
  wanted: readonly string[];
  wait: (ms: number) => Promise<unknown>;
  /** Logs a wait. */
  say: (line: string) => void;
}

/** Reads the evidence for a pull request from GitHub, as it was at its merge; for an open one, as it is now. */
export async function readEvidence(
  pull: PullRequest,
  github: GitHubReader,
  gathering: GatherOptions,
): Promise<Evidence> {
  const [timeline, reviews, activity] = await Promise.all([
    github.timelineOf(pull.number),
    github.reviewsOf(pull.number),
    activityOfHead(pull, github),
  ]);
  const roles = new Roles(github);
  const approvals = await Promise.all(
    approvalsOf(reviews, pull).map(async review => ({ ...review, permission: await roles.of(review.by) })),
  );
  const isReviewed = approvals.some(({ on_head, permission }) => on_head && MAY_APPROVE.has(permission));
  const found = isReviewed
    ? { timeline, push: lastPushOf(pull, timeline, activity) }
    : await awaitLastPush(pull, github, { timeline, activity }, gathering);
  const isWanted = (name: string) => gathering.wanted.some(label => label.toLowerCase() === name.toLowerCase());
  const labels = await Promise.all(
    labelsAtMerge(found.timeline, pull.head.sha, found.push).map(async label => ({
      ...label,
      permission: await (isWanted(label.name) ? roles.of(label.by) : roles.ifReadable(label.by)),
    })),
  );
  return {
    pull_request: pull.number,
    ...(pull.html_url === undefined ? {} : { url: pull.html_url }),
    head_sha: pull.head.sha,
    merge_sha: pull.merge_commit_sha ?? '',
    labels,
    merged_by: mergerOf(found.timeline),
    ...(approvals.length > 0 ? { approvals } : {}),
  };
}

/** Returns the evidence for several pull requests as one approval. */
export function joinEvidence([first, ...others]: Evidence[]): Approval | undefined {
  return first && { ...first, ...(others.length > 0 ? { with: others } : {}) };
}

function activityOfHead(pull: PullRequest, github: GitHubReader): Promise<ActivityEntry[] | undefined> {
  const { repo, ref } = pull.head;
  const isEnough = (entry: ActivityEntry) => isBeforeMerge(entry, pull.merged_at);
  return repo ? github.activityOf(repo.full_name, ref, isEnough) : Promise.resolve(undefined);
}

/** Reads timeline and activity again for some seconds if they do not show the last push yet. */
async function awaitLastPush(
  pull: PullRequest,
  github: GitHubReader,
  first: { timeline: TimelineEntry[]; activity: ActivityEntry[] | undefined },
  { wait, say }: GatherOptions,
): Promise<{ timeline: TimelineEntry[]; push: LastPush }> {
  let { timeline, activity } = first;
  let push = lastPushOf(pull, timeline, activity);
  for (const pause of LAG_PAUSES) {
    // Without a label there is nothing to prove, and an activity that is not shown does not appear later.
    const isPending = 'unproven' in push && activity !== undefined;
    if (!isPending || !labelsAtMerge(timeline, pull.head.sha, push).some(({ unproven }) => unproven)) break;
    say(`GitHub does not show the last push of pull request #${pull.number} yet. Asking again in ${pause / 1000} s.`);
    await wait(pause);
    [timeline, activity] = await Promise.all([github.timelineOf(pull.number), activityOfHead(pull, github)]);
    push = lastPushOf(pull, timeline, activity);
  }
  return { timeline, push };
}

function mergerOf(timeline: TimelineEntry[]): string {
  const merge = timeline.find(({ event }) => event === 'merged');
  return merge && 'actor' in merge ? (merge.actor?.login ?? '') : '';
}

/** Reads the role of each account once. */
class Roles {
  readonly #github: GitHubReader;
  readonly #known = new Map<string, Promise<Label['permission']>>();

  constructor(github: GitHubReader) {
    this.#github = github;
  }

  of(login: string): Promise<Label['permission']> {
    if (login === '') return Promise.resolve('none');
    const known = this.#known.get(login) ?? this.#github.permissionOf(login).then(parsePermission);
    this.#known.set(login, known);
    return known;
  }

  /** Returns none if GitHub does not tell the role. */
  ifReadable(login: string): Promise<Label['permission']> {
    return this.of(login).catch(() => 'none');
  }
}
