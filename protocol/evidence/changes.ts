import type { PullRequest } from './answers.ts';
import { LAG_PAUSES } from './gather.ts';
import type { Changes, Commit, GitHubReader } from './reader.ts';

/** A commit of the branch, and the merged pull request that brought it; null if it was pushed directly. */
export interface BroughtCommit {
  sha: string;
  pull: PullRequest | null;
}

/** Returns the commits of the branch itself, oldest first, without those that a merge commit brought along; undefined if one is missing. */
export function firstParents(commits: readonly Commit[], before: string, after: string): Commit[] | undefined {
  const bySha = new Map(commits.map(commit => [commit.sha, commit]));
  const chain: Commit[] = [];
  for (let sha = after; sha !== before; ) {
    const commit = bySha.get(sha);
    if (!commit || chain.length > commits.length) return undefined;
    chain.unshift(commit);
    sha = commit.parents[0] ?? '';
  }
  return chain;
}

/** Returns true if a change may touch one of the paths: files, and folders with a slash at the end. */
export function touches(files: readonly string[] | undefined, paths: readonly string[]): boolean {
  // A list that may be incomplete may miss the file that counts.
  if (!files) return true;
  return files.some(file => paths.some(path => (path.endsWith('/') ? file.startsWith(path) : file === path)));
}

/** A part of a branch's history: its commits after `from`, and the comparison of both ends. */
export interface Stretch {
  chain: readonly Commit[];
  from: string;
  range: Changes;
  /** The comparison up to the deployed commit, if the stretch ends before it. */
  whole?: Changes;
}

/**
 * Returns the commits of a stretch that brought what the paths now contain. Compares both ends first, then halves: a part
 * after which the paths are as before brought nothing, and neither did a commit whose files were all taken back.
 */
export async function commitsThatBring(
  { chain, from, range, whole = range }: Stretch,
  paths: readonly string[],
  github: GitHubReader,
): Promise<Commit[]> {
  if (!touches(whole.files, paths)) return [];
  const remains = (files: readonly string[] | undefined) =>
    !files || !whole.files || files.some(file => touches([file], paths) && whole.files?.includes(file));
  const search = async (start: number, end: number, files: readonly string[] | undefined): Promise<Commit[]> => {
    if (start === end || !touches(files, paths)) return [];
    if (end - start === 1) return remains(files) ? chain.slice(start, end) : [];
    const middle = (start + end) >> 1;
    const found: Commit[] = [];
    for (const [first, last] of [
      [start, middle],
      [middle, end],
    ] as const) {
      const base = first === 0 ? from : (chain[first - 1]?.sha ?? from);
      found.push(...(await search(first, last, (await github.compare(base, chain[last - 1]?.sha ?? '')).files)));
    }
    return found;
  };
  return search(0, chain.length, range.files);
}

export interface BranchOptions {
  branch: string;
  /** Returns true if the pull request may have brought one of the commits. */
  belongs: (pull: PullRequest) => boolean;
  wait: (ms: number) => Promise<unknown>;
  say: (line: string) => void;
}

/**
 * Finds the merged pull request of each commit: its merge commit (merge, squash, the last one of a rebase), or the one under
 * which GitHub lists it and that `belongs` to these commits. Asks again for some seconds, because GitHub's index lags.
 */
export async function pullRequestsOf(
  commits: readonly Commit[],
  github: GitHubReader,
  { branch, belongs, wait, say }: BranchOptions,
): Promise<BroughtCommit[]> {
  const isCandidate = (pull: PullRequest) => isMergedInto(pull, branch, github.repository) && belongs(pull);
  const owner = new Map<string, PullRequest>();
  for (const [round, pause] of [0, ...LAG_PAUSES].entries()) {
    const open = commits.filter(({ sha }) => !owner.has(sha));
    if (open.length === 0) break;
    if (round > 0) {
      say(`GitHub lists no pull request of ${open[0]?.sha.slice(0, 8)} yet. Asking again in ${pause / 1000} s.`);
      await wait(pause);
    }
    // All at once: the client limits how many requests run at the same time.
    const answers = await Promise.all(open.map(async ({ sha }) => ({ sha, pulls: await github.pullRequestsOf(sha) })));
    for (const { sha, pulls } of answers) {
      const candidates = pulls.filter(isCandidate);
      const pull = candidates.find(({ merge_commit_sha }) => merge_commit_sha === sha) ?? candidates[0];
      if (pull) owner.set(sha, pull);
    }
  }
  for (const { sha, message } of commits) {
    if (owner.has(sha)) continue;
    const pull = await hintedBy(message, github);
    if (pull && pull.merge_commit_sha === sha && isCandidate(pull)) owner.set(sha, pull);
  }
  return commits.map(({ sha }) => ({ sha, pull: owner.get(sha) ?? null }));
}

/** Looks up the number in a commit message. Any author can write one, so the caller checks the pull request that it names. */
async function hintedBy(message: string, github: GitHubReader): Promise<PullRequest | undefined> {
  const [subject = ''] = message.split('\n');
  const number = /^Merge pull request #(\d{1,9}) /.exec(subject)?.[1] ?? /\(#(\d{1,9})\)$/.exec(subject)?.[1];
  return number === undefined ? undefined : github.pullRequest(Number(number));
}

/** Returns true if the end of a comparison descends from its begin, or is the same commit. */
export function isAhead({ status }: Changes): boolean {
  return status === 'ahead' || status === 'identical';
}

export function isMergedInto(pull: PullRequest, branch: string, repository: string): boolean {
  return (
    pull.merged_at !== null &&
    pull.base.ref === branch &&
    pull.base.repo.full_name.toLowerCase() === repository.toLowerCase()
  );
}
