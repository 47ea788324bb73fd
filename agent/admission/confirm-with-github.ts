import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Intent } from '../../intents/intent.ts';
import { checkIntents, loadIntents } from '../../intents/load.ts';
import type { Approval, Deployment, Evidence, FinishedDocument, Label } from '../../protocol/command.ts';
import {
  approvalsOf,
  labelsAtMerge,
  type PullRequest,
  parsePermission,
  type ReviewEntry,
  type TimelineEntry,
} from '../../protocol/evidence.ts';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import { type CircuitBreakers, CircuitOpen, circuitOpenRefusal } from '../outbound/circuit-breaker.ts';
import { GitHubReader } from '../outbound/github.ts';
import { refusals } from '../refusals.ts';
import { readSecretFile } from '../system/secret-file.ts';

/** The fields of a workflow run that are compared. */
interface WorkflowRun {
  event: string;
  status: string;
  head_sha: string;
  run_attempt: number;
  repository: { id: number };
}

interface TreeEntry {
  path: string;
  type: string;
  mode: string;
  sha: string;
}

/** States of a run that has not ended: one of its jobs may be the sender. */
const ACTIVE_STATUSES = new Set(['in_progress', 'queued', 'pending', 'waiting', 'requested']);
/** Events whose workflow run has the commit of the command. */
const COMMIT_EVENTS = new Set(['push', 'workflow_dispatch', 'schedule']);

/**
 * Compares a command with GitHub: its workflow run is in progress, intents and files are those of its commit, and the pull
 * requests were merged as the command says. Returns GitHub's evidence. Throws `Refused`: `not-confirmed`, `github-unconfirmed`.
 */
async function confirm(command: Deployment, github: GitHubReader): Promise<Approval | null> {
  await confirmRun(command, github);
  await confirmContent(command, github);
  return command.approval ? confirmApproval(command.approval, command, github) : null;
}

/** Returns the evidence that GitHub has for a command. Throws `Refused`. */
export async function confirmWithGitHub(
  { github }: Config,
  command: Deployment,
  circuits: CircuitBreakers,
): Promise<Approval | null> {
  if (!github) throw new Refused(refusals.githubUnreachable('agent.yaml has no github.token_file'));
  let token: string;
  try {
    token = readSecretFile(github.token_file);
  } catch (error) {
    throw new Refused(refusals.githubUnreachable(messageOf(error)));
  }
  const reader = new GitHubReader(github.api_url, command.origin.repository, token);
  try {
    return await circuits.execute('github', () => confirm(command, reader), isGitHubUnreachable);
  } catch (error) {
    if (error instanceof CircuitOpen) throw new Refused(circuitOpenRefusal(error.open));
    throw error;
  }
}

/** Returns true if GitHub did not answer, in contrast to an answer that does not confirm. */
function isGitHubUnreachable(error: unknown): boolean {
  return error instanceof Refused && error.code === 'github-unconfirmed';
}

async function confirmRun({ origin }: Deployment, github: GitHubReader): Promise<void> {
  const run = await github.get<WorkflowRun>(`/actions/runs/${encodeURIComponent(origin.run_id)}`);
  if (!run) throw notConfirmed(`the workflow run ${origin.run_id} does not exist`);
  if (String(run.repository.id) !== origin.repository_id)
    throw notConfirmed('the workflow run belongs to another repository');
  if (run.event !== origin.event) throw notConfirmed(`the event of the workflow run is ${run.event}`);
  if (String(run.run_attempt) !== origin.run_attempt)
    throw notConfirmed(`the workflow run is at attempt ${run.run_attempt}`);
  if (COMMIT_EVENTS.has(origin.event) && run.head_sha !== origin.sha)
    throw notConfirmed('the workflow run has another commit');
  if (!ACTIVE_STATUSES.has(run.status)) throw notConfirmed(`the workflow run is ${run.status}`);
}

async function confirmContent(command: Deployment, github: GitHubReader): Promise<void> {
  const { sha } = command.origin;
  const listed = await github.get<{ tree: TreeEntry[]; truncated: boolean }>(`/git/trees/${sha}?recursive=1`);
  if (!listed) throw notConfirmed(`the commit ${sha} does not exist`);
  if (listed.truncated) throw new Refused(refusals.githubUnreachable('the commit has too many files to be listed'));
  // An undo uses only the names of the documents, not the files of the command.
  if (!command.undo) confirmFiles(command, listed.tree);
  await confirmIntents(command, listed.tree, github);
}

/** Compares the git object ids of files, so that no file has to be fetched. */
function confirmFiles(command: Deployment, tree: TreeEntry[]): void {
  const wanted = new Map<string, string>();
  for (const { intent } of command.intents) {
    if (intent.action !== 'rollout' || intent.source_dir === undefined) continue;
    const dir = `${intent.source_dir.replace(/\/+$/, '')}/`;
    for (const { path, type, sha, mode } of tree) {
      if (type !== 'tree' && path.startsWith(dir))
        wanted.set(`${intent.stack}/${path.slice(dir.length)}`, `${sha} ${mode === '100755'}`);
    }
  }
  for (const { stack, path, mode, content } of command.files) {
    const key = `${stack}/${path}`;
    if (wanted.get(key) !== `${gitBlobId(Buffer.from(content, 'base64'))} ${mode === 0o755}`)
      throw notConfirmed(`the file ${JSON.stringify(path)} differs from the commit`);
    wanted.delete(key);
  }
  const [missing] = wanted.keys();
  if (missing !== undefined) throw notConfirmed(`the file ${JSON.stringify(missing)} of the commit is not shipped`);
}

function gitBlobId(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

/** Checks that a file of that name in the commit yields each intent, with the params of the command. */
async function confirmIntents(command: Deployment, tree: TreeEntry[], github: GitHubReader): Promise<void> {
  const { intents, given = [] } = command;
  for (const name of new Set([...intents, ...given].map(document => document.name))) {
    const documents = intents.filter(document => document.name === name);
    const finished = given.filter(document => document.name === name);
    const files = tree.filter(({ path, type }) => type === 'blob' && intentNameOf(path) === name);
    let isConfirmed = false;
    for (const { path, sha } of files) {
      const blob = await github.get<{ content: string }>(`/git/blobs/${sha}`);
      const text = Buffer.from(blob?.content ?? '', 'base64').toString();
      const at = command.rendered_at === undefined ? new Date() : new Date(command.rendered_at);
      const loaded = loadDeclared(path, text, command.params, at);
      const has = (document: number, matches: (intent: Intent) => boolean) =>
        loaded.some(one => one.document === document && matches(one.intent));
      isConfirmed ||=
        documents.every(one => has(one.document, intent => isDeepStrictEqual(intent, one.intent))) &&
        finished.every(one => has(one.document, intent => matchesFinishedDocument(intent, one.intent)));
    }
    if (!isConfirmed) throw notConfirmed(`no file of the commit yields the intent "${name}" of the command`);
  }
}

/** Returns true if the intent is the one of a document that another command executed. */
function matchesFinishedDocument(intent: Intent, reported: FinishedDocument['intent']): boolean {
  const { action, id, host, hosts, on_failure } = intent;
  const plain = (one: FinishedDocument['intent']) =>
    JSON.stringify([one.action, one.id, one.host, one.hosts, one.on_failure]);
  return plain({ action, id, host, hosts, on_failure }) === plain(reported);
}

function intentNameOf(path: string): string {
  return basename(path).replace(/\.ya?ml$/, '');
}

/** Loads a file with the params that it declares: a command carries the params of all files together. */
function loadDeclared(file: string, text: string, params: Deployment['params'], at: Date) {
  try {
    const [checked] = checkIntents([{ file, text }]);
    const declared = checked?.declared ?? [];
    return loadIntents(
      [{ file, text }],
      Object.fromEntries(Object.entries(params).filter(([key]) => declared.includes(key))),
      at,
    );
  } catch {
    return [];
  }
}

async function confirmApproval(approval: Approval, command: Deployment, github: GitHubReader): Promise<Approval> {
  const { origin } = command;
  const claimed = [approval, ...(approval.with ?? [])];
  const confirmed: Evidence[] = [];
  for (const one of claimed) confirmed.push(await confirmEvidence(one, origin, github));
  if (origin.event === 'push' || origin.event === 'pull_request') {
    const pulls = (await github.get<PullRequest[]>(`/commits/${origin.sha}/pulls?per_page=100`)) ?? [];
    const hasCommit = claimed.some(
      one => one.merge_sha === origin.sha || pulls.some(pull => pull.number === one.pull_request),
    );
    if (!hasCommit) throw notConfirmed('none of the pull requests contains this commit');
  }
  const [first, ...others] = confirmed;
  if (!first) throw notConfirmed('the command has no pull request');
  return { ...first, ...(others.length > 0 ? { with: others } : {}) };
}

async function confirmEvidence(
  { pull_request, merge_sha }: Evidence,
  origin: Deployment['origin'],
  github: GitHubReader,
): Promise<Evidence> {
  const pull = await github.get<PullRequest>(`/pulls/${pull_request}`);
  if (!pull || pull.merged_at === null) throw notConfirmed(`pull request #${pull_request} is not merged`);
  if (pull.merge_commit_sha !== merge_sha)
    throw notConfirmed(`pull request #${pull_request} was merged as another commit`);
  if (merge_sha !== origin.sha) {
    const compared = await github.get<{ status: string }>(`/compare/${merge_sha}...${origin.sha}?per_page=1`);
    if (compared?.status !== 'ahead' && compared?.status !== 'identical')
      throw notConfirmed(`pull request #${pull_request} is not in the history of the commit`);
  }
  const labels = labelsAtMerge(await github.all<TimelineEntry>(`/issues/${pull_request}/timeline`));
  const approvals = approvalsOf(await github.all<ReviewEntry>(`/pulls/${pull_request}/reviews`), pull.head.sha);
  const permissions = new Map<string, Label['permission']>();
  for (const login of new Set([...labels, ...approvals].map(({ by }) => by))) {
    const found = await github.get<{ permission: string; role_name?: string }>(
      `/collaborators/${encodeURIComponent(login)}/permission`,
    );
    permissions.set(login, parsePermission(found?.role_name ?? found?.permission ?? 'none'));
  }
  const withPermission = <T extends { by: string }>(one: T) => ({
    ...one,
    permission: permissions.get(one.by) ?? 'none',
  });
  return {
    pull_request,
    head_sha: pull.head.sha,
    merge_sha,
    labels: labels.map(withPermission),
    merged_by: pull.merged_by?.login ?? '',
    approvals: approvals.map(withPermission),
  };
}

function notConfirmed(cause: string): Refused {
  return new Refused(refusals.notConfirmed(cause));
}
