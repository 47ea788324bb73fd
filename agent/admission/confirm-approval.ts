import { setTimeout as sleep } from 'node:timers/promises';
import type { Intent } from '../../intents/intent.ts';
import type { Approval, Deployment, Evidence } from '../../protocol/command.ts';
import type { ActivityEntry, PullRequest } from '../../protocol/evidence/answers.ts';
import {
  commitsThatBring,
  firstParents,
  isAhead,
  isMergedInto,
  pullRequestsOf,
  touches,
} from '../../protocol/evidence/changes.ts';
import { type GatherOptions, joinEvidence, LAG_PAUSES, readEvidence } from '../../protocol/evidence/gather.ts';
import type { GitHubReader } from '../../protocol/evidence/reader.ts';
import { Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';
import type { DeploymentStore } from '../store/deployments.ts';
import { deployedKeys } from './coverage.ts';

/** A document's last deployment, and the paths that it depends on. */
interface Base {
  since: string;
  name: string;
  /** True if the document itself was not deployed yet. */
  isFirst: boolean;
  /** The files that yield it with the hosts file, and all paths. */
  files: string[];
  paths: string[];
}

interface Scope {
  /** The default branch. */
  branch: string;
  /** The files that yield the documents, by their name. */
  documents: Map<string, string[]>;
  /** The path of the hosts file, if the command names one. */
  shared: string[];
  bases: Base[];
  wanted: string[];
}

/** Returns the documents of which the host knows a last deployment. */
export function basesOf(
  command: Deployment,
  documents: Map<string, string[]>,
  shared: string[],
  deployments: Pick<DeploymentStore, 'last'>,
): Base[] {
  return deployedKeys(command).flatMap(key => {
    const last = deployments.last(key);
    const files = [...(documents.get(key.intent) ?? []), ...shared];
    const paths = key.sourceDir === '' ? files : [...files, `${key.sourceDir}/`];
    return last ? [{ since: last.sha, name: key.intent, isFirst: last.isFirst, files, paths }] : [];
  });
}

export async function confirmDescent(since: string, sha: string, github: GitHubReader): Promise<void> {
  if (since === sha) return;
  const changes = await github.compareIfKnown(since, sha);
  const commits = [sha.slice(0, 8), since.slice(0, 8)] as const;
  if (!changes || changes.status === 'diverged') throw new Refused(refusals.historyRewritten(...commits));
  if (!isAhead(changes)) throw new Refused(refusals.olderThanDeployed(...commits));
}

/** Compares the pull requests of a command with GitHub, and returns GitHub's evidence. Throws `Refused`. */
export async function confirmApproval(
  approval: Approval,
  command: Deployment,
  { branch, documents, shared, bases, wanted }: Scope,
  github: GitHubReader,
): Promise<Approval> {
  const { origin } = command;
  const gathering: GatherOptions = { wanted, wait: ms => sleep(ms), say: line => console.log(`github: ${line}`) };
  const pulls = new Map<number, PullRequest>();
  for (const claimed of [approval, ...(approval.with ?? [])])
    pulls.set(claimed.pull_request, await confirmMerge(claimed, origin.sha, branch, github));
  const [named] = pulls.values();
  if (!named) throw notConfirmed('the command has no pull request');
  const folders = command.intents.flatMap(({ intent }) => sourceFolderOf(intent) ?? []);
  const paths = [...[...documents.values()].flat(), ...folders, ...shared];
  // A document without a last deployment: only the event says where the approved content begins.
  const isFirst = bases.length < deployedKeys(command).length;
  const beginAt = (since: string) => bases.push({ since, name: '', isFirst: false, files: [], paths });
  if (origin.event === 'push' || origin.event === 'pull_request') {
    const ofCommit = await github.pullRequestsOf(origin.sha);
    const hasCommit = [...pulls.values()].some(
      one => one.merge_commit_sha === origin.sha || ofCommit.some(pull => pull.number === one.number),
    );
    if (!hasCommit) throw notConfirmed('none of the pull requests contains this commit');
    const before =
      isFirst && origin.event === 'push' ? await findPush(origin.sha, branch, github, gathering) : undefined;
    if (before !== undefined && !command.allow_older) beginAt(before);
  } else {
    if (!touches(await github.filesOf(named.number), paths))
      throw notConfirmed(`pull request #${named.number} does not change what the intents depend on`);
    if (isFirst) beginAt(named.merge_commit_sha ?? '');
  }
  const mergedSince = new ChangeReader(origin.sha, branch, github, gathering);
  for (const { since, paths } of bases)
    for (const pull of await mergedSince.pulls(since, paths)) pulls.set(pull.number, pull);
  for (const { isFirst, name, files } of bases)
    if (isFirst && !(await isBroughtBy([...pulls.values()], files, github)))
      throw notConfirmed(`no pull request of the command brings the intent "${name}", which was not deployed yet`);
  if (isFirst && !command.allow_older && !(await isBroughtBy([...pulls.values()], paths, github)))
    throw notConfirmed(
      'no pull request of the command changes what the intents depend on, and they are not deployed yet',
    );
  const evidence: Evidence[] = [];
  for (const pull of pulls.values()) evidence.push(await readEvidence(pull, github, gathering));
  return joinEvidence(evidence) ?? approval;
}

/** Returns a claimed pull request if it was merged into the default branch, into the history of the commit. */
async function confirmMerge(
  { pull_request, merge_sha }: Evidence,
  sha: string,
  branch: string,
  github: GitHubReader,
): Promise<PullRequest> {
  const pull = await github.pullRequest(pull_request);
  if (!pull || pull.merged_at === null) throw notConfirmed(`pull request #${pull_request} is not merged`);
  if (!isMergedInto(pull, branch, github.repository))
    throw notConfirmed(`pull request #${pull_request} was merged into ${pull.base.ref}, not into ${branch}`);
  if (pull.merge_commit_sha !== merge_sha)
    throw notConfirmed(`pull request #${pull_request} was merged as another commit`);
  if (merge_sha !== sha && !isAhead(await github.compare(merge_sha, sha)))
    throw notConfirmed(`pull request #${pull_request} is not in the history of the commit`);
  return pull;
}

/**
 * Returns the commit before the push that ended at a commit, from the server's activity of the branch: the sender could name
 * only some pull requests of a push. Returns undefined if the server has no such list.
 */
async function findPush(
  sha: string,
  branch: string,
  github: GitHubReader,
  { wait, say }: GatherOptions,
): Promise<string | undefined> {
  for (const pause of [...LAG_PAUSES, undefined]) {
    const isIt = ({ after }: ActivityEntry) => after === sha;
    const activity = await github.activityOf(github.repository, branch, isIt);
    if (!activity) return undefined;
    const push = activity.find(isIt);
    if (push) return push.before;
    if (pause === undefined) break;
    say(`the activity of ${branch} does not have the push of ${sha.slice(0, 8)} yet`);
    await wait(pause);
  }
  throw new Refused(refusals.githubUnreachable(`it does not show the push of ${sha.slice(0, 8)} yet`));
}

async function isBroughtBy(pulls: PullRequest[], files: string[], github: GitHubReader): Promise<boolean> {
  for (const { number } of pulls) if (touches(await github.filesOf(number), files)) return true;
  return false;
}

/** Finds the pull requests that brought what paths contain at a commit, and were merged after another one. */
class ChangeReader {
  readonly #sha: string;
  readonly #branch: string;
  readonly #github: GitHubReader;
  readonly #gathering: GatherOptions;

  constructor(sha: string, branch: string, github: GitHubReader, gathering: GatherOptions) {
    this.#sha = sha;
    this.#branch = branch;
    this.#github = github;
    this.#gathering = gathering;
  }

  async pulls(since: string, paths: string[]): Promise<PullRequest[]> {
    if (since === this.#sha) return [];
    const range = await this.#github.compare(since, this.#sha);
    const chain = firstParents(range.commits, since, this.#sha);
    if (!chain) throw notConfirmed(`the history from ${since.slice(0, 8)} to ${this.#sha.slice(0, 8)} is not one line`);
    const known = new Set(range.commits.map(({ sha }) => sha));
    const commits = await commitsThatBring({ chain, from: since, range }, paths, this.#github);
    const brought = await pullRequestsOf(commits, this.#github, {
      ...this.#gathering,
      branch: this.#branch,
      belongs: pull => pull.merge_commit_sha !== null && known.has(pull.merge_commit_sha),
    });
    return brought.map(({ sha, pull }) => {
      if (!pull) throw notConfirmed(`the commit ${sha.slice(0, 8)} does not belong to a merged pull request`);
      return pull;
    });
  }
}

export function notConfirmed(cause: string): Refused {
  return new Refused(refusals.notConfirmed(cause));
}

/** Returns the folder that a document ships. */
export function sourceFolderOf(intent: Intent): string | undefined {
  return intent.action === 'rollout' && intent.source_dir !== undefined ? `${intent.source_dir}/` : undefined;
}
