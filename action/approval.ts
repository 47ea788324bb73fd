import { setTimeout as sleep } from 'node:timers/promises';
import type { Intent } from '../intents/intent.ts';
import type { Approval, Coverage, Evidence } from '../protocol/command.ts';
import type { PullRequest } from '../protocol/evidence/answers.ts';
import {
  commitsThatBring,
  firstParents,
  isAhead,
  isMergedInto,
  pullRequestsOf,
  touches,
} from '../protocol/evidence/changes.ts';
import { type GatherOptions, joinEvidence, readEvidence } from '../protocol/evidence/gather.ts';
import type { Commit, GitHubReader } from '../protocol/evidence/reader.ts';
import { checkLabel } from '../protocol/labels.ts';
import { Refused } from '../protocol/refusal.ts';
import { coverDocuments, type EventChanges, type HostDocument, missingCommit } from './coverage.ts';
import { actionRefusals } from './refusals.ts';
import type { Trigger } from './trigger.ts';

export interface ApprovalOptions extends Omit<GatherOptions, 'wait'> {
  /** Paths that the intents depend on: files, and folders with a slash at the end. */
  paths: string[];
  /** Those of them on which every intent depends: the hosts file. */
  shared: string[];
  /** The input `pull-request`: the evidence for an event without evidence of its own. */
  pullRequest: number | undefined;
  /** False for a plan or a dry run, which need no approval and may look at any branch. */
  deploys: boolean;
  /** Asks the hosts for their last deployments. Called only if the evidence of the event itself is good. */
  deployed: () => Promise<HostDocument[]>;
  wait?: GatherOptions['wait'];
}

/** The evidence for the commands of a job, and its coverage of each host's documents by the host's name. */
export interface Gathered {
  approval: Approval | null;
  covers: Map<string, Coverage[]>;
}

type Gathering = ApprovalOptions & GatherOptions;

/**
 * Reads the evidence for a command from GitHub: the merged pull requests of the event, with the labels at their merges, and
 * those of every change since the last deployments. The approval is null if the event has no evidence (a dispatch, a schedule,
 * an open pull request). Throws `Refused`.
 */
export async function gatherApproval(
  trigger: Trigger,
  github: GitHubReader,
  { wait = ms => sleep(ms), ...options }: ApprovalOptions,
): Promise<Gathered> {
  const gathering: Gathering = { ...options, wait };
  if (trigger.kind === 'open-pull-request') return { approval: null, covers: new Map() };
  const { branch, sha } = trigger;
  const event = await changesOf(trigger, github, gathering);
  const evidence = new Map<number, Evidence>();
  const add = async (pulls: readonly PullRequest[]) => {
    const open = pulls.filter(({ number }) => !evidence.has(number));
    const read = await Promise.all(open.map(pull => readEvidence(pull, github, gathering)));
    for (const one of read) evidence.set(one.pull_request, one);
    return joinEvidence([...evidence.values()]) ?? null;
  };
  let approval = await add(event.pulls);
  if (!gathering.deploys) return { approval, covers: new Map() };
  checkLabels(gathering.wanted, approval);
  const documents = await gathering.deployed();
  const pullsOf = async (commits: readonly Commit[], all: readonly Commit[]) =>
    mergedPullRequests(commits, all, branch, github, gathering);
  const { covers, pulls } = await coverDocuments(documents, event, github, {
    ...{ pullsOf, shared: gathering.shared, hasEvidence: approval !== null, say: gathering.say },
  });
  approval = await add(pulls);
  const [named] = event.pulls;
  // Without a last deployment, only the named pull request says where the approved content begins.
  if (trigger.kind === 'dispatch' && named && (documents.length === 0 || documents.some(({ since }) => since === null)))
    approval = await add(await mergedAfter(named, sha, github, gathering, pullsOf));
  checkLabels(gathering.wanted, approval);
  return { approval, covers };
}

/** Checks that evidence has labels, before the action sends anything. Throws `Refused`. */
function checkLabels(wanted: readonly string[], approval: Approval | null): void {
  if (!approval) return;
  for (const label of wanted) {
    const refusal = checkLabel(approval, label);
    if (refusal) throw new Refused(refusal);
  }
}

/** Lists the labels that intents require. */
export function requiredLabels(intents: readonly Intent[]): string[] {
  return [...new Set(intents.flatMap(({ label_required }) => label_required ?? []))];
}

async function changesOf(
  trigger: Exclude<Trigger, { kind: 'open-pull-request' }>,
  github: GitHubReader,
  gathering: Gathering,
): Promise<EventChanges> {
  switch (trigger.kind) {
    case 'push':
      return changesOfPush(trigger, github, gathering);
    case 'merged-pull-request': {
      const pull = await github.pullRequest(trigger.number);
      if (!pull || !isMergedInto(pull, trigger.branch, github.repository))
        throw actionRefusals.notMerged(trigger.number);
      return { sha: trigger.sha, before: undefined, files: () => github.filesOf(pull.number), pulls: [pull] };
    }
    case 'dispatch':
      return changesOfDispatch(trigger, github, gathering);
  }
}

/**
 * Returns the changes of a push. Every commit of it must belong to a merged pull request. If there are several, those that
 * touch the intents count; if none does, the newest one caused this push.
 */
async function changesOfPush(
  { before, sha, branch }: Extract<Trigger, { kind: 'push' }>,
  github: GitHubReader,
  gathering: Gathering,
): Promise<EventChanges> {
  const { status, commits, files } = await github.compare(before, sha);
  if (status !== 'ahead') throw actionRefusals.forcedPush();
  const chain = firstParents(commits, before, sha);
  if (!chain) throw missingCommit();
  const brought = await mergedPullRequests(chain, commits, branch, github, gathering);
  const pulls = [...new Map([...brought.values()].map(pull => [pull.number, pull])).values()];
  const relevant = pulls.length === 1 ? pulls : await relevantOf(pulls, github, gathering.paths);
  return { sha, before, files: async () => files, pulls: relevant.length > 0 ? relevant : pulls.slice(-1) };
}

/** Returns the pull request that a dispatch names. A deployment needs the default branch, with or without evidence. */
async function changesOfDispatch(
  { sha, branch }: Extract<Trigger, { kind: 'dispatch' }>,
  github: GitHubReader,
  gathering: Gathering,
): Promise<EventChanges> {
  if (gathering.deploys && !isAhead(await github.compare(sha, branch)))
    throw actionRefusals.notDefaultBranch(`the commit ${sha.slice(0, 8)}`, branch);
  const number = gathering.pullRequest;
  if (number === undefined) return { sha, before: undefined, files: async () => undefined, pulls: [] };
  const pull = await github.pullRequest(number);
  if (!pull || !isMergedInto(pull, branch, github.repository)) throw actionRefusals.notMerged(number);
  const since = await github.compareIfKnown(pull.merge_commit_sha ?? '', sha);
  if (!since || !isAhead(since)) throw actionRefusals.pullRequestNotInHistory(number, sha);
  const files = await github.filesOf(number);
  if (!touches(files, gathering.paths)) throw actionRefusals.pullRequestUnrelated(number);
  return { sha, before: undefined, files: async () => files, pulls: [pull] };
}

/** Returns the pull requests that were merged after one and brought what the paths now contain. */
async function mergedAfter(
  pull: PullRequest,
  sha: string,
  github: GitHubReader,
  gathering: Gathering,
  pullsOf: (commits: readonly Commit[], all: readonly Commit[]) => Promise<Map<string, PullRequest>>,
): Promise<PullRequest[]> {
  const from = pull.merge_commit_sha ?? '';
  const range = await github.compare(from, sha);
  const chain = firstParents(range.commits, from, sha);
  if (!chain) throw missingCommit();
  const commits = await commitsThatBring({ chain, from, range }, gathering.paths, github);
  return [...(await pullsOf(commits, range.commits)).values()];
}

/** Returns the merged pull request of each commit. Refuses a commit that belongs to none. */
async function mergedPullRequests(
  commits: readonly Commit[],
  all: readonly Commit[],
  branch: string,
  github: GitHubReader,
  { wait, say }: Gathering,
): Promise<Map<string, PullRequest>> {
  const known = new Set(all.map(({ sha }) => sha));
  const belongs = (pull: PullRequest) => pull.merge_commit_sha !== null && known.has(pull.merge_commit_sha);
  const brought = await pullRequestsOf(commits, github, { branch, belongs, wait, say });
  return new Map(
    brought.map(({ sha, pull }) => {
      if (!pull) throw actionRefusals.noPullRequest(sha);
      return [sha, pull];
    }),
  );
}

async function relevantOf(pulls: PullRequest[], github: GitHubReader, paths: string[]): Promise<PullRequest[]> {
  const relevant: PullRequest[] = [];
  for (const pull of pulls) {
    if (touches(await github.filesOf(pull.number), paths)) relevant.push(pull);
  }
  return relevant;
}
