import { setTimeout as sleep } from 'node:timers/promises';
import type { PullRequest } from '../protocol/evidence/answers.ts';
import { commitsThatBring, firstParents, isAhead, pullRequestsOf } from '../protocol/evidence/changes.ts';
import { readEvidence } from '../protocol/evidence/gather.ts';
import type { GitHubReader } from '../protocol/evidence/reader.ts';
import { checkLabelOf } from '../protocol/labels.ts';
import { type Refusal, Refused } from '../protocol/refusal.ts';
import { compareWithLast, type HostDocument, missingCommit } from './coverage.ts';
import { actionRefusals } from './refusals.ts';
import type { Trigger } from './trigger.ts';

/** A reason why a deployment of the planned commit would be refused, and the change that causes it, if it is one. */
export interface WaitingChange extends Refusal {
  commit?: string;
  pull_request?: number;
}

export interface WaitingOptions {
  /** Paths on which every document depends: the hosts file. */
  shared: string[];
  /** The labels that the intents require. The rules of the host may require more. */
  wanted: string[];
  say: (line: string) => void;
}

/**
 * Lists the changes since the last deployments that are not approved: they would stop a deployment of this commit. For an open
 * pull request these are the changes of the default branch, not its own.
 */
export async function findWaiting(
  trigger: Trigger,
  documents: readonly HostDocument[],
  github: GitHubReader,
  options: WaitingOptions,
): Promise<WaitingChange[]> {
  const found = new Map<string, WaitingChange>();
  for (const { since, ...document } of documents) {
    if (since === null) {
      options.say(
        `${document.host === '' ? 'The host' : document.host} has not deployed "${document.name}" yet: its content would be the baseline.`,
      );
      continue;
    }
    const paths = [...document.paths, ...options.shared];
    try {
      for (const change of await waitingSince(since, paths, trigger, github, options))
        found.set(`${change.commit} ${change.message}`, change);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      found.set(error.message, error.refusal);
    }
  }
  return [...found.values()];
}

async function waitingSince(
  since: string,
  paths: string[],
  trigger: Trigger,
  github: GitHubReader,
  options: WaitingOptions,
): Promise<WaitingChange[]> {
  const { branch } = trigger;
  const end = trigger.kind === 'open-pull-request' ? await github.tipOf(branch) : trigger.sha;
  if (end === since) return [];
  const range = await compareWithLast(since, end, end, github);
  if (!isAhead(range)) throw actionRefusals.olderThanDeployed(end.slice(0, 8), since.slice(0, 8));
  const chain = firstParents(range.commits, since, end);
  if (!chain) throw missingCommit();
  const commits = await commitsThatBring({ chain, from: since, range }, paths, github);
  const known = new Set(range.commits.map(({ sha }) => sha));
  const belongs = (pull: PullRequest) => pull.merge_commit_sha !== null && known.has(pull.merge_commit_sha);
  // The evidence of a push was gathered before, with all waits for GitHub's index.
  const wait = (ms: number) => (trigger.kind === 'push' ? Promise.resolve() : sleep(ms));
  const say = trigger.kind === 'push' ? () => undefined : options.say;
  const changes: WaitingChange[] = [];
  for (const { sha, pull } of await pullRequestsOf(commits, github, { branch, belongs, wait, say })) {
    if (!pull) {
      const { message, ...refusal } = actionRefusals.noPullRequest(sha).refusal;
      changes.push({ commit: sha, ...refusal, message: `${message} ${pageOf(trigger, sha)}` });
      continue;
    }
    const evidence = await readEvidence(pull, github, { wanted: options.wanted, wait, say });
    for (const label of options.wanted) {
      const refusal = checkLabelOf(evidence, label);
      if (refusal) changes.push({ commit: sha, pull_request: pull.number, ...refusal });
    }
  }
  return changes;
}

/** Returns the address of a commit's page. */
function pageOf({ origin }: Trigger, sha: string): string {
  return `${origin.url.split('/actions/')[0]}/commit/${sha}`;
}

/** Returns the lines of the log for a plan. */
export function waitingLines(waiting: readonly WaitingChange[]): string[] {
  return waiting.map(({ code, message }) => `✗ A deployment would be refused: ${code}: ${message}`);
}
