import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { findCycle } from '../../intents/graph.ts';
import type { Intent } from '../../intents/intent.ts';
import { stackOf } from '../../intents/intent.ts';
import { Command, type Deployment, MAX_SHIPPED_BYTES } from '../../protocol/command.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import type { Question } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { Executor, HostSite } from '../executors/executor.ts';
import { refusals } from '../refusals.ts';
import { createAllowList } from '../steps/probe.ts';
import type { StoredRun } from '../store/runs.ts';
import { isFolder } from '../system/file-changes.ts';
import { requireUnder } from '../system/paths.ts';
import type { AdmittedCommand, CommandSender } from './admitted.ts';
import type { AuthenticatedSender } from './authenticate.ts';
import { evaluateRules, type PolicyDecision, type PolicyInput } from './rules.ts';

/** What the guard judges by. */
export interface AdmissionContext {
  config: Config;
  executors: Executor[];
  site: HostSite;
  now?: () => Date;
}

/**
 * The guard, after the signature: audience, repository, action, stack, labels, path, in this order and here only. The
 * first thing that is not allowed is what the sender hears. Throws `Refused`.
 */
export async function admit(
  command: Deployment,
  key: AuthenticatedSender,
  address: string,
  { config, executors, site, now = () => new Date() }: AdmissionContext,
): Promise<AdmittedCommand> {
  checkSender(command, key, config);
  const looksOnly = command.type === 'plan' || command.dry_run;
  const facts: PolicyInput = {
    event: command.origin.event,
    approval: command.approval,
    looksOnly,
    planDigest: command.plan_digest,
    at: now(),
    ...(key.peer?.capabilities ? { capabilities: key.peer.capabilities } : {}),
  };
  // What no rule is about is told before what a rule wants beside: both are asked of all documents.
  for (const { intent } of command.intents)
    requireAllowed(evaluateRules(intent, { ...facts, looksOnly: true }, key.entry));
  const rules = command.intents.map(({ intent }) => requireAllowed(evaluateRules(intent, facts, key.entry)));
  checkCommandGraph(command);
  const documents = assignExecutors(command, executors);
  for (const entry of documents) await checkPaths(entry, command.dry_run, site);
  checkFiles(command);
  const sender: CommandSender = { trust: key.entry.name, keyId: key.id, address, rules };
  return { command, sender, documents } as unknown as AdmittedCommand;
}

/** The rule that allows it. Throws `Refused`. */
function requireAllowed({ rule, refusal }: PolicyDecision): string {
  if (refusal || rule === undefined) throw new Refused(refusal ?? refusals.denied(''));
  return rule;
}

/**
 * A command that was given on the host itself, by somebody who may use the agent's socket: no key, no approval and no rule
 * is asked for, but paths, stacks and addresses are judged as for everybody. Throws `Refused`.
 */
export async function admitLocal(
  command: Deployment,
  user: string,
  { executors, site }: { executors: Executor[]; site: HostSite },
): Promise<AdmittedCommand> {
  checkCommandGraph(command);
  const documents = assignExecutors(command, executors);
  for (const entry of documents) await checkPaths(entry, command.dry_run, site);
  checkFiles(command);
  const sender: CommandSender = { trust: LOCAL, keyId: '', address: user, rules: [] };
  return { command, sender, documents } as unknown as AdmittedCommand;
}

/**
 * A command that this host makes itself, by its schedules: judged by the entry of agent.yaml that is for them, but for
 * approvals, which it has none of. Throws `Refused`.
 */
export async function admitHostRun(
  command: Deployment,
  entry: TrustEntry,
  { executors, site, now = () => new Date() }: Omit<AdmissionContext, 'config'>,
): Promise<AdmittedCommand> {
  const facts: PolicyInput = { event: command.origin.event, approval: null, looksOnly: false, isOwn: true, at: now() };
  const rules = command.intents.map(({ intent }) => requireAllowed(evaluateRules(intent, facts, entry)));
  const documents = assignExecutors(command, executors);
  for (const one of documents) await checkPaths(one, false, site);
  const sender: CommandSender = { trust: entry.name, keyId: '', address: LOCAL, rules };
  return { command, sender, documents } as unknown as AdmittedCommand;
}

/** In place of a trust entry's name: the agent's own socket. */
export const LOCAL = 'local';

function assignExecutors(command: Deployment, executors: Executor[]): AdmittedCommand['documents'] {
  return command.intents.map(document => {
    const executor = executors.find(one => one.supports(document.intent));
    if (!executor) throw new Error(`No executor takes ${document.intent.action}`);
    return { document, executor };
  });
}

async function checkPaths(
  { document, executor }: AdmittedCommand['documents'][number],
  isDryRun: boolean,
  site: HostSite,
): Promise<void> {
  for (const claim of executor.claimPaths(document.intent, site)) await requireUnder(claim.path, claim.root);
  // A dry run answers from nothing, also about folders and names.
  if (isDryRun) return;
  for (const host of executor.listHosts(document.intent)) await checkHost(host, site);
  await checkStack(document.intent, site);
}

/** What a document needs comes with it, or has been carried by another command, and nothing waits for itself. Throws `Refused`. */
function checkCommandGraph(command: Deployment): void {
  const { intents, given = [] } = command;
  for (const { name, document, intent } of intents) {
    // A rollout may need backups of this host.
    if (intent.action === 'rollout') continue;
    const missing = intent.needs?.find(
      id => ![...intents, ...given].some(one => one.name === name && one.intent.id === id),
    );
    if (missing !== undefined)
      throw new Refused(
        refusals.graphInvalid(
          `${name} ${document} needs "${missing}", which is neither in the command nor told to have ended`,
        ),
      );
  }
  const cycle = findCycle(graphOfCommand(command).nodes);
  if (cycle) throw new Refused(refusals.graphInvalid(`${cycle.length} of them wait for each other`));
}

/** A name without a dot may be a service of the stack, which only the step can know. Throws `Refused`. */
async function checkHost(host: string, site: HostSite): Promise<void> {
  const isLiteral = isIP(host) !== 0;
  if (!isLiteral && !host.includes('.') && host !== 'localhost') return;
  const addresses = isLiteral ? [{ address: host }] : await lookup(host, { all: true }).catch(() => []);
  const allowed = createAllowList(site.verify);
  for (const { address } of addresses) {
    if (!allowed.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'))
      throw new Refused(refusals.verifyAddressNotAllowed(isLiteral ? host : `${host} (${address})`));
  }
}

/** A run that an earlier agent admitted, as it was; undefined where this version can't read or carry out its command. */
export function readmit(stored: StoredRun, executors: Executor[]): AdmittedCommand | undefined {
  const { files, ...rest } = JSON.parse(stored.command) as { files: object[] };
  // The store holds no contents: they lie in the run's folder.
  const command = Command.safeParse({ ...rest, files: files.map(file => ({ ...file, content: '' })) }).data;
  if (command?.type !== 'run' && command?.type !== 'plan') return undefined;
  const documents = command.intents.flatMap(document => {
    const executor = executors.find(one => one.supports(document.intent));
    return executor ? [{ document, executor }] : [];
  });
  if (documents.length !== command.intents.length) return undefined;
  const sender: CommandSender = { trust: stored.trust, keyId: stored.keyId, address: stored.address, rules: [] };
  return { command, sender, documents } as unknown as AdmittedCommand;
}

/** Audience and repository, for every kind of command. Throws `Refused`. */
export function checkSender(command: Command, key: AuthenticatedSender, config: Config): void {
  if (command.agent !== config.agent) throw new Refused(refusals.audienceMismatch(command.agent, config.agent));
  const { repository, repository_id } = command.origin;
  const named = key.entry.repository?.toLowerCase() === repository.toLowerCase();
  const numbered = key.entry.repository_id === undefined || key.entry.repository_id === repository_id;
  if (!named || !numbered) throw new Refused(refusals.repositoryNotAllowed(repository, key.id));
}

/** What a sender may ask: about runs of its own entry always, about the host what the entry says. Throws `Refused`. */
export function checkQuestion({ about }: Question, { entry }: AuthenticatedSender): void {
  if (about !== 'run' && !entry.may_ask?.includes(about))
    throw new Refused(refusals.questionNotAllowed(entry.name, about));
}

async function checkStack(intent: Intent, site: HostSite): Promise<void> {
  const stack = stackOf(intent);
  if (!stack) return;
  const folder = join(site.stacksRoot, stack);
  if (!(await isFolder(folder))) throw new Refused(refusals.stackUnknown(stack, folder));
}

/** The files that travel with a command: safe paths, of a stack that a rollout ships to, unchanged and not too many bytes. */
function checkFiles(command: Deployment): void {
  const stacks = new Set(
    command.intents.flatMap(({ intent }) =>
      intent.action === 'rollout' && intent.source_dir !== undefined ? [intent.stack] : [],
    ),
  );
  const seen = new Set<string>();
  let bytes = 0;
  for (const file of command.files) {
    const refuse = (why: string) => new Refused(refusals.fileNotAllowed(file.path, why));
    if (!stacks.has(file.stack)) throw refuse('no rollout of this command ships files to its stack');
    const why = explainUnsafePath(file.path);
    if (why) throw refuse(why);
    if (seen.has(`${file.stack}/${file.path}`)) throw refuse('it is there twice');
    seen.add(`${file.stack}/${file.path}`);
    const content = Buffer.from(file.content, 'base64');
    bytes += content.length;
    if (bytes > MAX_SHIPPED_BYTES) throw refuse(`with it the files have more than ${MAX_SHIPPED_BYTES} bytes`);
    if (createHash('sha256').update(content).digest('hex') !== file.sha256)
      throw refuse('its content is not what its checksum says');
  }
}

function explainUnsafePath(path: string): string | undefined {
  if (path.startsWith('/')) return 'its path is absolute';
  if (path.includes('\\') || [...path].some(char => char < ' ' || char === '\u007f'))
    return 'its path holds a control character or a backslash';
  const segments = path.split('/');
  if (segments.some(segment => segment === '' || segment === '.' || segment === '..'))
    return 'its path climbs or has an empty part';
  if (segments.some(segment => segment.toLowerCase() === '.git')) return 'it belongs to git';
  return undefined;
}
