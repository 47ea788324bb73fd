import { readFileSync } from 'node:fs';
import type { CommandTask } from '../client/command.ts';
import type { AgentAddress } from '../client/deliver.ts';
import { type GraphNode, graphOf } from '../intents/graph.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Coverage, ShippedFile } from '../protocol/command.ts';
import { messageOf, Refused } from '../protocol/refusal.ts';
import { type Gathered, gatherApproval, requiredLabels } from './approval.ts';
import { askDeployed } from './ask-deployed.ts';
import { type Batch, batchesOf } from './batches.ts';
import { collectFiles, findIntents } from './find-intents.ts';
import { type FileTree, gitTree } from './git-tree.ts';
import type { CommonInputs, Inputs } from './inputs.ts';
import { actionRefusals } from './refusals.ts';
import { readHosts, targetHostsOf } from './targets.ts';
import { readTrigger } from './trigger.ts';
import { findWaiting, type WaitingChange } from './waiting.ts';

/** The documents, their hosts, and the parts of a command that are the same for every host. */
export interface Prepared {
  documents: LoadedIntent[];
  agents: Map<string, AgentAddress>;
  nodes: GraphNode[];
  batches: Batch[];
  files: ShippedFile[];
  task: Pick<
    CommandTask,
    'type' | 'origin' | 'approval' | 'allowOlder' | 'hostsFile' | 'params' | 'renderedAt' | 'dryRun'
  >;
  /** The coverage of each host's documents, by the host's name. */
  covers: Map<string, Coverage[]>;
  /** Gathers the evidence again. Throws `Refused`. */
  gather: () => Promise<Gathered>;
  /** The reasons why a deployment of the planned commit would be refused; undefined for the other modes. */
  waiting: WaitingChange[] | undefined;
}

/** Reads the documents and the evidence for them. `say` logs the waits for GitHub. Throws `Refused`, `InvalidIntents`. */
export async function prepare(inputs: Inputs, workspace: string, say: (line: string) => void): Promise<Prepared> {
  const trigger = readTrigger(process.env, readEvent(), inputs.mode);
  const tree = await gitTree(workspace, trigger.sha);
  const { listRequiredBackups } = await import(/* webpackMode: "eager" */ '../intents/required-backups.ts');
  const { loadIntents } = await import(/* webpackMode: "eager" */ '../intents/load.ts');
  const at = new Date();
  const named = await findIntents(inputs.intent, inputs.intentsDir, tree);
  const before = await findIntents(listRequiredBackups(loadIntents(named, inputs.params, at)), inputs.intentsDir, tree);
  const rest = named.filter(({ file }) => !before.some(one => one.file === file));
  const documents = loadIntents([...before, ...rest], inputs.params, at);
  const files = await collectFiles(documents, tree, trigger.sha);
  const agents = await agentsOf(inputs, tree);
  const nodes = graphOf(documents);
  const batches = batchesOf(
    nodes,
    documents.map(document => targetHostsOf(document, agents)),
  );
  const shared = inputs.hostsFile === undefined ? [] : [inputs.hostsFile];
  const github = await openGitHub(inputs, trigger.origin.repository, say);
  const wanted = requiredLabels(documents.map(({ intent }) => intent));
  const deployed = async () =>
    inputs.allowOlder ? [] : askDeployed({ documents, batches, agents, origin: trigger.origin, inputs, say });
  const gather = () =>
    gatherApproval(trigger, github, {
      ...{ paths: [...pathsOf(documents), ...shared], shared, wanted, deployed, say },
      pullRequest: inputs.pullRequest,
      deploys: inputs.mode === 'run',
    });
  const find = async () => findWaiting(trigger, await deployed(), github, { shared, wanted, say });
  const gathered: Gathered & { waiting?: WaitingChange[] } =
    inputs.mode === 'plan' ? await gatherForPlan(gather, find) : await gather();
  const { approval, covers, waiting } = gathered;
  const commands = batches.flatMap(({ target }) => target.waves.flat()).length;
  if (inputs.planDigests.length > 0 && inputs.planDigests.length !== commands)
    throw actionRefusals.inputInvalid(
      'plan-digest',
      `it has ${inputs.planDigests.length} lines for ${commands} commands`,
      'Pass the output plan-digest of the plan unchanged.',
    );
  const type = inputs.mode === 'plan' ? 'plan' : 'run';
  const isDated = [...before, ...rest].some(({ text }) => /\|\s*date\b/.test(text));
  const task: Prepared['task'] = {
    type,
    ...{ origin: trigger.origin, approval, params: inputs.params },
    hostsFile: inputs.hostsFile,
    ...(inputs.allowOlder ? { allowOlder: true } : {}),
    ...(isDated ? { renderedAt: at.toISOString() } : {}),
    dryRun: inputs.mode === 'dry-run',
  };
  return {
    documents,
    agents,
    nodes,
    batches,
    files,
    task,
    covers,
    gather,
    waiting,
  };
}

/** Gathers the evidence of the event for a plan, which needs none: a refusal is a reason against a deployment. */
async function gatherForPlan(gather: () => Promise<Gathered>, find: () => Promise<WaitingChange[]>) {
  const refusals: WaitingChange[] = [];
  const gathered = await gather().catch((error: unknown): Gathered => {
    if (!(error instanceof Refused)) throw error;
    refusals.push(error.refusal);
    return { approval: null, covers: new Map() };
  });
  const waiting = await find();
  return {
    ...gathered,
    waiting: [...waiting, ...refusals.filter(one => !waiting.some(({ code }) => code === one.code))],
  };
}

/**
 * Returns what the documents depend on: their files, also of those that run before a rollout, and the folders that they ship.
 */
function pathsOf(documents: LoadedIntent[]): string[] {
  const paths = documents.flatMap(({ file, intent }) =>
    'source_dir' in intent && intent.source_dir !== undefined ? [file, `${intent.source_dir}/`] : [file],
  );
  return [...new Set(paths)];
}

/** Returns the agents of the inputs and of the hosts file. Throws `Refused` `input-invalid`. */
async function agentsOf({ agents, hostsFile }: Inputs, tree: FileTree): Promise<Map<string, AgentAddress>> {
  if (hostsFile === undefined) return agents;
  const [text] = await tree.read([hostsFile]).catch(() => []);
  if (text === undefined)
    throw actionRefusals.inputInvalid(
      'hosts-file',
      `${hostsFile} is not in the repository`,
      'Write the path of a file in the repository.',
    );
  const named = readHosts(hostsFile, text.toString('utf8'));
  const twice = [...named.keys()].find(host => agents.has(host));
  if (twice !== undefined)
    throw actionRefusals.inputInvalid(
      'hosts-file',
      `the host "${twice}" is in the input "agent" too`,
      'Name each host once.',
    );
  return new Map([...agents, ...named]);
}

/** Loads GitHub's client, which is large, only when it is needed. */
export async function openGitHub(inputs: CommonInputs, repository: string, say: (line: string) => void) {
  const { createGitHub } = await import(/* webpackMode: "eager" */ './github.ts');
  const baseUrl = process.env.GITHUB_API_URL ?? 'https://api.github.com';
  return createGitHub({ token: inputs.githubToken, repository, baseUrl, say });
}

/** Reads the payload of the event. Throws `Refused` `event-unreadable`. */
export function readEvent(): unknown {
  const path = process.env.GITHUB_EVENT_PATH;
  if (!path) return {};
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw actionRefusals.eventUnreadable(messageOf(error));
  }
}
