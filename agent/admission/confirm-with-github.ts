import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { parseHosts } from '../../intents/hosts.ts';
import type { Intent } from '../../intents/intent.ts';
import { checkIntents, loadIntents } from '../../intents/load.ts';
import type { Approval, Deployment, FinishedDocument } from '../../protocol/command.ts';
import { isAhead } from '../../protocol/evidence/changes.ts';
import { GitHubReader } from '../../protocol/evidence/reader.ts';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import { type CircuitBreakers, CircuitOpen, circuitOpenRefusal } from '../outbound/circuit-breaker.ts';
import { createGitHubPort } from '../outbound/github.ts';
import { refusals } from '../refusals.ts';
import type { DeploymentStore } from '../store/deployments.ts';
import { readSecretFile } from '../system/secret-file.ts';
import { basesOf, confirmApproval, confirmDescent, notConfirmed, sourceFolderOf } from './confirm-approval.ts';

/** The fields of a workflow run that are compared. */
const WorkflowRun = z.object({
  event: z.string(),
  status: z.string(),
  head_sha: z.string(),
  head_branch: z.string().nullish(),
  run_attempt: z.int(),
  repository: z.object({ id: z.int() }),
});
const Tree = z.object({
  tree: z.array(z.object({ path: z.string(), type: z.string(), mode: z.string(), sha: z.string() })),
  truncated: z.boolean(),
});
type TreeEntry = z.infer<typeof Tree>['tree'][number];
const Blob = z.object({ content: z.string() });

/** States of a run that has not ended: one of its jobs may be the sender. */
const ACTIVE_STATUSES = new Set(['in_progress', 'queued', 'pending', 'waiting', 'requested']);
/** Events whose workflow run has the commit of the command. */
const COMMIT_EVENTS = new Set(['push', 'workflow_dispatch', 'schedule']);

/**
 * Compares a command with GitHub: its workflow run is in progress, its commit is on the default branch, intents and files are
 * those of the commit, and the pull requests were merged as the command says. Returns GitHub's evidence. Throws `Refused`:
 * `not-confirmed`, `github-unconfirmed`.
 */
async function confirm(
  command: Deployment,
  github: GitHubReader,
  { wanted, deployments, ownKeys }: ConfirmationOptions,
): Promise<Approval | null> {
  const branch = await github.defaultBranch();
  await confirmRun(command, branch, github);
  const { documents, shared } = await confirmContent(command, ownKeys, github);
  const bases = command.allow_older ? [] : basesOf(command, documents, shared, deployments);
  for (const { since } of bases) await confirmDescent(since, command.origin.sha, github);
  return command.approval
    ? confirmApproval(command.approval, command, { branch, documents, shared, bases, wanted }, github)
    : null;
}

export interface ConfirmationOptions {
  circuits: CircuitBreakers;
  deployments: Pick<DeploymentStore, 'last'>;
  /** The public keys of this agent. */
  ownKeys: readonly string[];
  /** The labels that the intents and the rules may require. */
  wanted: string[];
}

/** Returns the evidence that GitHub has for a command. Throws `Refused`. */
export async function confirmWithGitHub(
  { github }: Config,
  command: Deployment,
  options: ConfirmationOptions,
): Promise<Approval | null> {
  if (!github) throw new Refused(refusals.githubUnreachable('agent.yaml has no github.token_file'));
  let token: string;
  try {
    token = readSecretFile(github.token_file);
  } catch (error) {
    throw new Refused(refusals.githubUnreachable(messageOf(error)));
  }
  const reader = new GitHubReader(createGitHubPort(github.api_url, command.origin.repository, token));
  try {
    return await options.circuits.execute('github', () => confirm(command, reader, options), isGitHubUnreachable);
  } catch (error) {
    if (error instanceof CircuitOpen) throw new Refused(circuitOpenRefusal(error.open));
    throw error;
  }
}

/** Returns true if GitHub did not answer, in contrast to an answer that does not confirm. */
function isGitHubUnreachable(error: unknown): boolean {
  return error instanceof Refused && error.code === 'github-unconfirmed';
}

async function confirmRun({ origin }: Deployment, branch: string, github: GitHubReader): Promise<void> {
  const path = `/actions/runs/${encodeURIComponent(origin.run_id)}`;
  const run = await github.read(WorkflowRun, `the workflow run ${origin.run_id}`, path, [404]);
  if (!run) throw notConfirmed(`the workflow run ${origin.run_id} does not exist`);
  if (String(run.repository.id) !== origin.repository_id)
    throw notConfirmed('the workflow run belongs to another repository');
  if (run.event !== origin.event) throw notConfirmed(`the event of the workflow run is ${run.event}`);
  if (String(run.run_attempt) !== origin.run_attempt)
    throw notConfirmed(`the workflow run is at attempt ${run.run_attempt}`);
  if (COMMIT_EVENTS.has(origin.event)) {
    if (run.head_sha !== origin.sha) throw notConfirmed('the workflow run has another commit');
    if (run.head_branch !== branch)
      throw notConfirmed(
        `the workflow run is on ${run.head_branch ?? 'no branch'}, not on the default branch ${branch}`,
      );
  }
  if (!ACTIVE_STATUSES.has(run.status)) throw notConfirmed(`the workflow run is ${run.status}`);
  // A tag can have the name of the branch.
  if (!isAhead(await github.compare(origin.sha, branch)))
    throw notConfirmed(`the commit ${origin.sha.slice(0, 8)} is not in the history of the default branch ${branch}`);
}

/** Returns the files of the commit that yield the documents, by their name, and the path of the hosts file. */
async function confirmContent(
  command: Deployment,
  ownKeys: readonly string[],
  github: GitHubReader,
): Promise<{ documents: Map<string, string[]>; shared: string[] }> {
  const { sha } = command.origin;
  const listed = await github.read(
    Tree,
    `the files of ${sha.slice(0, 8)}`,
    `/git/trees/${sha}?recursive=1`,
    [404, 422],
  );
  if (!listed) throw notConfirmed(`the commit ${sha} does not exist`);
  if (listed.truncated) throw new Refused(refusals.githubUnreachable('the commit has too many files to be listed'));
  // An undo uses only the names of the documents, not the files of the command.
  if (!command.undo) confirmFiles(command, listed.tree);
  const { hosts_file } = command;
  if (hosts_file !== undefined) await confirmHostsFile(hosts_file, ownKeys, listed.tree, github);
  const documents = await confirmIntents(command, listed.tree, github);
  return { documents, shared: hosts_file === undefined ? [] : [hosts_file] };
}

/** Checks that a path is a hosts file with this agent: a change of another file must not count as one of the documents. */
async function confirmHostsFile(
  path: string,
  ownKeys: readonly string[],
  tree: TreeEntry[],
  github: GitHubReader,
): Promise<void> {
  const entry = tree.find(one => one.path === path && one.type === 'blob');
  const blob = entry && (await github.read(Blob, `the file ${path}`, `/git/blobs/${entry.sha}`));
  const parsed = parseHosts(Buffer.from(blob?.content ?? '', 'base64').toString());
  const names = 'hosts' in parsed && [...parsed.hosts.values()].some(({ key }) => ownKeys.includes(key.trim()));
  if (!names)
    throw notConfirmed(`${JSON.stringify(path)} is not a hosts file of the commit with the key of this agent`);
}

/** Compares the git object ids of files, so that no file has to be fetched. */
function confirmFiles(command: Deployment, tree: TreeEntry[]): void {
  const wanted = new Map<string, string>();
  for (const { intent } of command.intents) {
    const dir = sourceFolderOf(intent);
    if (dir === undefined || intent.action !== 'rollout') continue;
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

/** Checks that a file of that name in the commit yields each intent, with the params of the command. Returns these files by the name. */
async function confirmIntents(
  command: Deployment,
  tree: TreeEntry[],
  github: GitHubReader,
): Promise<Map<string, string[]>> {
  const { intents, given = [] } = command;
  const confirmed = new Map<string, string[]>();
  for (const name of new Set([...intents, ...given].map(document => document.name))) {
    const documents = intents.filter(document => document.name === name);
    const finished = given.filter(document => document.name === name);
    const files = tree.filter(({ path, type }) => type === 'blob' && intentNameOf(path) === name);
    const yielding: string[] = [];
    for (const { path, sha } of files) {
      const blob = await github.read(Blob, `the file ${path}`, `/git/blobs/${sha}`);
      const text = Buffer.from(blob?.content ?? '', 'base64').toString();
      const at = command.rendered_at === undefined ? new Date() : new Date(command.rendered_at);
      const loaded = loadDeclared(path, text, command.params, at);
      const has = (document: number, matches: (intent: Intent) => boolean) =>
        loaded.some(one => one.document === document && matches(one.intent));
      const isConfirmed =
        documents.every(one => has(one.document, intent => isDeepStrictEqual(intent, one.intent))) &&
        finished.every(one => has(one.document, intent => matchesFinishedDocument(intent, one.intent)));
      if (isConfirmed) yielding.push(path);
    }
    if (yielding.length === 0) throw notConfirmed(`no file of the commit yields the intent "${name}" of the command`);
    confirmed.set(name, yielding);
  }
  return confirmed;
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
