import { setTimeout as sleep } from 'node:timers/promises';
import type { Intent } from '../intents/intent.ts';
import type { Approval, Evidence, Label } from '../protocol/command.ts';
import { approvalsOf, labelsAtMerge, type PullRequest, parsePermission } from '../protocol/evidence.ts';
import { checkLabel } from '../protocol/labels.ts';
import { Refused } from '../protocol/refusal.ts';
import type { Commit, GitHub } from './github.ts';
import { actionRefusals } from './refusals.ts';
import type { Trigger } from './trigger.ts';

/** The pauses before GitHub's index of commits and pull requests is read again, in milliseconds: it lags behind a merge. */
const INDEX_PAUSES = [1000, 2000, 4000, 8000];

export interface ApprovalOptions {
  repository: string;
  /** Paths that the intents depend on: their own files, and the folders (with a slash at the end) that they ship. */
  paths: string[];
  /** The input `pull-request`: the evidence for an event without evidence of its own. */
  pullRequest: number | undefined;
  wait?: (ms: number) => Promise<unknown>;
}

/**
 * Reads the evidence for a command from GitHub: the merged pull request that it comes from, with the labels at its merge.
 * Returns null if the event has no evidence (a dispatch, a schedule, an open pull request). Throws `Refused`.
 */
export async function gatherApproval(
  trigger: Trigger,
  github: GitHub,
  gathering: ApprovalOptions,
): Promise<Approval | null> {
  switch (trigger.kind) {
    case 'open-pull-request':
      return null;
    case 'push':
      return approvalOfPush(trigger, github, gathering);
    case 'merged-pull-request': {
      const pull = await github.pullRequest(trigger.number);
      if (!pull || !isMergedInto(pull, trigger.branch, gathering.repository))
        throw actionRefusals.notMerged(trigger.number);
      return evidenceOf(pull, github);
    }
    case 'dispatch': {
      if (gathering.pullRequest === undefined) return null;
      const pull = await github.pullRequest(gathering.pullRequest);
      if (!pull || !isMergedInto(pull, trigger.branch, gathering.repository))
        throw actionRefusals.notMerged(gathering.pullRequest);
      const { status } = await github.compare(pull.merge_commit_sha ?? '', trigger.sha);
      if (status !== 'ahead' && status !== 'identical')
        throw actionRefusals.pullRequestNotInHistory(pull.number, trigger.sha);
      return evidenceOf(pull, github);
    }
  }
}

/** Checks the labels that the intents require, before the action connects to an agent. Throws `Refused`. */
export function checkLabels(intents: Intent[], approval: Approval | null): void {
  if (!approval) return;
  for (const { label_required } of intents) {
    const refusal = label_required === undefined ? undefined : checkLabel(approval, label_required);
    if (refusal) throw new Refused(refusal);
  }
}

async function approvalOfPush(
  trigger: Extract<Trigger, { kind: 'push' }>,
  github: GitHub,
  gathering: ApprovalOptions,
): Promise<Approval> {
  const { status, commits } = await github.compare(trigger.before, trigger.sha);
  if (status !== 'ahead') throw actionRefusals.forcedPush();
  const chain = firstParents(commits, trigger.before, trigger.sha);
  const pulls = await pullRequestsOf(chain, commits, trigger.branch, github, gathering);
  const relevant = pulls.length === 1 ? pulls : await relevantOf(pulls, github, gathering.paths);
  // If no pull request touches the intents, the newest one caused this push.
  const [first, ...others] = relevant.length > 0 ? relevant : pulls.slice(-1);
  if (!first) throw actionRefusals.noPullRequest(trigger.sha);
  const approval: Approval = await evidenceOf(first, github);
  if (others.length > 0) approval.with = await Promise.all(others.map(other => evidenceOf(other, github)));
  return approval;
}

/** Returns the commits of the branch itself, oldest first, without the commits that a merge commit brought along. */
function firstParents(commits: Commit[], before: string, after: string): Commit[] {
  const bySha = new Map(commits.map(commit => [commit.sha, commit]));
  const chain: Commit[] = [];
  for (let sha = after; sha !== before; ) {
    const commit = bySha.get(sha);
    if (!commit)
      throw actionRefusals.githubUnreadable(
        'the pushed commits',
        `the commit ${sha.slice(0, 8)} is missing between the two ends`,
      );
    chain.unshift(commit);
    sha = commit.parents[0] ?? '';
  }
  return chain;
}

/**
 * Returns the merged pull requests of a push, in the order of their merges. Every commit must belong to a pull request: it is
 * its merge commit (merge, squash, the last one of a rebase), or GitHub lists it under one whose merge commit is in this push.
 */
async function pullRequestsOf(
  chain: Commit[],
  commits: Commit[],
  branch: string,
  github: GitHub,
  { repository, wait = ms => sleep(ms) }: ApprovalOptions,
): Promise<PullRequest[]> {
  const pushed = new Set(commits.map(({ sha }) => sha));
  const belongs = (pull: PullRequest) =>
    isMergedInto(pull, branch, repository) && pull.merge_commit_sha !== null && pushed.has(pull.merge_commit_sha);
  const found = new Map<number, PullRequest>();
  const owner = new Map<string, number>();
  for (const [round, pause] of [0, ...INDEX_PAUSES].entries()) {
    const open = chain.filter(({ sha }) => !owner.has(sha));
    if (open.length === 0) break;
    if (round > 0) await wait(pause);
    // All at once: the client limits how many requests run at the same time.
    const answers = await Promise.all(open.map(async ({ sha }) => ({ sha, pulls: await github.pullRequestsOf(sha) })));
    for (const { sha, pulls } of answers) {
      const candidates = pulls.filter(belongs);
      const pull = candidates.find(({ merge_commit_sha }) => merge_commit_sha === sha) ?? candidates[0];
      if (!pull) continue;
      found.set(pull.number, pull);
      owner.set(sha, pull.number);
    }
  }
  for (const { sha, message } of chain) {
    if (owner.has(sha)) continue;
    const pull = await hintedBy(message, github);
    if (!pull || pull.merge_commit_sha !== sha || !belongs(pull)) throw actionRefusals.noPullRequest(sha);
    found.set(pull.number, pull);
    owner.set(sha, pull.number);
  }
  const order = new Map(chain.map(({ sha }, index) => [sha, index]));
  const place = (pull: PullRequest) => order.get(pull.merge_commit_sha ?? '') ?? Number.MAX_SAFE_INTEGER;
  return [...found.values()].sort((a, b) => place(a) - place(b));
}

/** Looks up the number in a commit message. Any author can write one, so the caller checks the pull request that it names. */
async function hintedBy(message: string, github: GitHub): Promise<PullRequest | undefined> {
  const [subject = ''] = message.split('\n');
  const number = /^Merge pull request #(\d{1,9}) /.exec(subject)?.[1] ?? /\(#(\d{1,9})\)$/.exec(subject)?.[1];
  return number === undefined ? undefined : github.pullRequest(Number(number));
}

async function relevantOf(pulls: PullRequest[], github: GitHub, paths: string[]): Promise<PullRequest[]> {
  const relevant: PullRequest[] = [];
  for (const pull of pulls) {
    const files = await github.filesOf(pull.number);
    if (files.some(file => paths.some(path => (path.endsWith('/') ? file.startsWith(path) : file === path))))
      relevant.push(pull);
  }
  return relevant;
}

function isMergedInto(pull: PullRequest, branch: string, repository: string): boolean {
  return (
    pull.merged_at !== null &&
    pull.base.ref === branch &&
    pull.base.repo.full_name.toLowerCase() === repository.toLowerCase()
  );
}

async function evidenceOf(pull: PullRequest, github: GitHub): Promise<Evidence> {
  const [whole, timeline, reviews] = await Promise.all([
    // Lists of pull requests don't name the account that merged.
    pull.merged_by ? pull : github.pullRequest(pull.number),
    github.timelineOf(pull.number),
    github.reviewsOf(pull.number),
  ]);
  const standing = labelsAtMerge(timeline);
  const approving = approvalsOf(reviews, pull.head.sha);
  const logins = [...new Set([...standing, ...approving].map(({ by }) => by))];
  const permissions = new Map(
    await Promise.all(
      logins.map(
        async (login): Promise<[string, Label['permission']]> => [
          login,
          login === '' ? 'none' : parsePermission(await github.permissionOf(login)),
        ],
      ),
    ),
  );
  return {
    pull_request: pull.number,
    head_sha: pull.head.sha,
    merge_sha: pull.merge_commit_sha ?? '',
    labels: standing.map(label => ({ ...label, permission: permissions.get(label.by) ?? 'none' })),
    merged_by: whole?.merged_by?.login ?? '',
    ...(approving.length > 0
      ? { approvals: approving.map(one => ({ ...one, permission: permissions.get(one.by) ?? 'none' })) }
      : {}),
  };
}
