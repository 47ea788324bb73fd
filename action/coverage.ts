import type { Coverage } from '../protocol/command.ts';
import type { PullRequest } from '../protocol/evidence/answers.ts';
import { commitsThatBring, firstParents, isAhead, touches } from '../protocol/evidence/changes.ts';
import type { Changes, Commit, GitHubReader } from '../protocol/evidence/reader.ts';
import type { Refused } from '../protocol/refusal.ts';
import { actionRefusals } from './refusals.ts';

/** A document on a host, and the commit up to which the host has its content approved; null if it has none. */
export interface HostDocument {
  host: string;
  name: string;
  stack: string;
  /** The files of the document, and all paths that it depends on. */
  files: string[];
  paths: string[];
  since: string | null;
  /** True if the host has not deployed this document yet. */
  isFirst: boolean;
}

/** The part of a deployment that the event itself is about. */
export interface EventChanges {
  sha: string;
  /** The commit before the event; undefined if the event names none. */
  before: string | undefined;
  /** Returns the names of the changed files; undefined if the list may be incomplete. */
  files: () => Promise<readonly string[] | undefined>;
  /** The pull requests of the event that count as evidence. */
  pulls: PullRequest[];
}

export interface CoverageOptions {
  /** Paths on which every document depends: the hosts file. */
  shared: string[];
  /** Returns the merged pull request of each commit. Refuses a commit that has none. */
  pullsOf: (commits: readonly Commit[], all: readonly Commit[]) => Promise<Map<string, PullRequest>>;
  /** True if the command has evidence at all. Else only the order of commits is checked. */
  hasEvidence: boolean;
  say: (line: string) => void;
}

/**
 * Returns the coverage of each host's documents, and the pull requests since their last deployments that are evidence too.
 * Throws `Refused`: `older-than-deployed`, `history-rewritten`, `first-deployment-unapproved`, `no-pull-request`.
 */
export async function coverDocuments(
  documents: readonly HostDocument[],
  event: EventChanges,
  github: GitHubReader,
  options: CoverageOptions,
): Promise<{ covers: Map<string, Coverage[]>; pulls: PullRequest[] }> {
  const covers = new Map<string, Coverage[]>();
  const pulls = new Map<number, PullRequest>();
  const done = new Map<string, Promise<Map<string, PullRequest>>>();
  for (const { host, name, stack, since, isFirst, ...document } of documents) {
    const paths = [...document.paths, ...options.shared];
    if (isFirst)
      await checkFirst(name, [...(since === null ? paths : document.files), ...options.shared], event, options);
    if (since === null)
      options.say(
        `${host === '' ? 'The host' : host} has not deployed "${name}" yet. Its content at ${event.sha.slice(0, 8)} is the baseline, and the evidence is about this event only.`,
      );
    const key = JSON.stringify([since, paths]);
    const earlier =
      done.get(key) ??
      (since === null ? Promise.resolve(new Map()) : changesSince(since, paths, event, github, options));
    done.set(key, earlier);
    const commits = [...(await earlier)].map(([sha, pull]) => ({ sha, pull }));
    for (const { pull } of commits) pulls.set(pull.number, pull);
    const own = event.pulls.map(pull => ({ sha: pull.merge_commit_sha ?? event.sha, pull }));
    const all = [...commits, ...own].map(({ sha, pull }) => ({ sha, pull_request: pull.number }));
    covers.set(host, [...(covers.get(host) ?? []), { name, stack, since, commits: all }]);
  }
  return { covers, pulls: [...pulls.values()] };
}

/** Refuses a first deployment whose evidence is about something else: no approval would be about its content. */
async function checkFirst(
  name: string,
  paths: string[],
  { files }: EventChanges,
  { hasEvidence }: CoverageOptions,
): Promise<void> {
  if (hasEvidence && !touches(await files(), paths)) throw actionRefusals.firstDeploymentUnapproved(name);
}

/** Returns the commits since a deployment, but before the event, that brought what the paths contain, with their pull requests. */
async function changesSince(
  since: string,
  paths: string[],
  { sha, before }: EventChanges,
  github: GitHubReader,
  { hasEvidence, pullsOf }: CoverageOptions,
): Promise<Map<string, PullRequest>> {
  if (since === before || since === sha) return new Map();
  const earlier = before === undefined ? undefined : await compareWithLast(since, before, sha, github);
  // In the common case nothing in between changed the paths, and one request shows that.
  if (earlier && isAhead(earlier) && !touches(earlier.files, paths)) return new Map();
  const whole = await compareWithLast(since, sha, sha, github);
  if (!isAhead(whole)) throw actionRefusals.olderThanDeployed(sha.slice(0, 8), since.slice(0, 8));
  if (!hasEvidence) return new Map();
  const range = earlier && isAhead(earlier) ? earlier : before === undefined ? whole : undefined;
  // The last deployment is within the event, all of whose pull requests are evidence.
  if (!range) return new Map();
  const chain = firstParents(range.commits, since, before ?? sha);
  if (!chain) throw missingCommit();
  const commits = await commitsThatBring({ chain, from: since, range, whole }, paths, github);
  return pullsOf(commits, whole.commits);
}

/** Compares the commit that was deployed last with a later one, to deploy `sha`. Throws `Refused` if a forced push replaced it. */
export async function compareWithLast(since: string, to: string, sha: string, github: GitHubReader): Promise<Changes> {
  const changes = await github.compareIfKnown(since, to);
  if (changes && changes.status !== 'diverged') return changes;
  throw actionRefusals.historyRewritten(sha.slice(0, 8), since.slice(0, 8));
}

export function missingCommit(): Refused {
  return actionRefusals.githubUnreadable('the commits', 'a commit is missing between the two ends');
}
