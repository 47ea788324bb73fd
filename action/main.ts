import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as core from '@actions/core';
import type { LoadedIntent } from '../intents/load.ts';
import { InvalidIntents } from '../intents/problem.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { checkLabels, gatherApproval } from './approval.ts';
import type { Task } from './command.ts';
import { cancel, type Delivery, deliver } from './deliver.ts';
import { idToken } from './id-token.ts';
import { type AgentAddress, type Inputs, readInputs } from './inputs.ts';
import { Log } from './log.ts';
import { post } from './post.ts';
import { refusals } from './refusals.ts';
import { Report } from './report.ts';
import { conclude } from './result.ts';
import { collectFiles, findIntents } from './selection.ts';
import { gitTree } from './tree.ts';
import { readTrigger } from './trigger.ts';
import { annotate, validate } from './validate.ts';

const log = new Log();

/** The straight line: inputs → trigger → intents → approval → command → delivery → report. */
async function main(): Promise<void> {
  const receipts: Receipt[] = [];
  try {
    const inputs = readInputs(process.env);
    const workspace = process.env.GITHUB_WORKSPACE ?? process.cwd();
    if (inputs.mode === 'validate') return await validate(inputs, workspace, log);
    core.setSecret(process.env['INPUT_SIGNING-KEY'] ?? '');
    for (const { agent, task } of await prepare(inputs, workspace)) {
      const receipt = await run(task, agent, inputs);
      receipts.push(receipt);
      if (receipt.outcome !== 'succeeded' && receipt.outcome !== 'planned') break;
    }
    await conclude(log, receipts);
  } catch (error) {
    await log.end();
    if (error instanceof InvalidIntents) {
      await annotate(error.problems, log);
      const [first] = error.problems;
      await conclude(log, receipts, refusals.intentInvalid(error.problems.length, first?.message ?? '').refusal);
    } else if (error instanceof Refused) {
      await conclude(log, receipts, error.refusal);
    } else throw error;
  }
}

/** What goes to which agent, in file order: neighbouring documents for one host travel in one command. */
async function prepare(inputs: Inputs, workspace: string): Promise<{ agent: AgentAddress; task: Task }[]> {
  const trigger = readTrigger(process.env, readEvent(), inputs.mode);
  const tree = await gitTree(workspace, trigger.sha);
  const { filesBefore } = await import(/* webpackMode: "eager" */ '../intents/before.ts');
  const { loadIntents } = await import(/* webpackMode: "eager" */ '../intents/load.ts');
  const named = await findIntents(inputs.intent, inputs.intentsDir, tree);
  const before = await findIntents(filesBefore(loadIntents(named, inputs.params)), inputs.intentsDir, tree);
  const rest = named.filter(({ file }) => !before.some(one => one.file === file));
  const intents = loadIntents([...before, ...rest], inputs.params);
  const files = await collectFiles(intents, tree, trigger.sha);
  const groups = groupByHost(intents, inputs);
  const approval = await gatherApproval(trigger, await openGitHub(inputs, trigger.origin.repository), {
    repository: trigger.origin.repository,
    paths: intents.flatMap(({ file, intent }) =>
      ['source_dir' in intent && intent.source_dir ? [file, `${intent.source_dir}/`] : [file]].flat(),
    ),
    pullRequest: inputs.pullRequest,
  });
  if (inputs.mode === 'run')
    checkLabels(
      intents.map(({ intent }) => intent),
      approval,
    );
  if (inputs.planDigests.length > 0 && inputs.planDigests.length !== groups.length)
    throw refusals.inputInvalid(
      'plan-digest',
      `it has ${inputs.planDigests.length} lines, and ${groups.length} commands are sent`,
      'Give the output plan-digest of the plan as it is.',
    );
  return groups.map(({ agent, documents }, index) => ({
    agent,
    task: {
      type: inputs.mode === 'plan' ? 'plan' : 'run',
      id: randomUUID(),
      origin: trigger.origin,
      approval,
      intents: documents,
      files: files.filter(({ stack }) => documents.some(({ intent }) => 'stack' in intent && intent.stack === stack)),
      params: inputs.params,
      dryRun: inputs.mode === 'dry-run',
      ...(inputs.mode === 'run' ? { planDigest: inputs.planDigests[index] } : {}),
    },
  }));
}

/** GitHub's client is large: it is loaded when GitHub is asked. */
async function openGitHub(inputs: Inputs, repository: string) {
  const { createGitHub } = await import(/* webpackMode: "eager" */ './github.ts');
  return createGitHub(inputs.githubToken, repository, process.env.GITHUB_API_URL ?? 'https://api.github.com');
}

function readEvent(): unknown {
  const path = process.env.GITHUB_EVENT_PATH;
  return path ? JSON.parse(readFileSync(path, 'utf8')) : {};
}

function groupByHost(
  intents: LoadedIntent[],
  { agents }: Inputs,
): { agent: AgentAddress; documents: LoadedIntent[] }[] {
  const groups: { host: string; agent: AgentAddress; documents: LoadedIntent[] }[] = [];
  for (const loaded of intents) {
    const host = loaded.intent.host ?? (agents.has('') ? '' : ([...agents.keys()][0] ?? ''));
    const agent = agents.get(host);
    if (!agent || (loaded.intent.host === undefined && agents.size > 1 && !agents.has(''))) {
      throw refusals.intentForUnknownHost(loaded.intent.host ?? '(none named)', [...agents.keys()].filter(Boolean));
    }
    const last = groups.at(-1);
    if (last?.host === host) last.documents.push(loaded);
    else groups.push({ host, agent, documents: [loaded] });
  }
  return groups;
}

async function run(task: Task, agent: AgentAddress, inputs: Inputs): Promise<Receipt> {
  let report = new Report(log, new URL(agent.url).hostname, task.dryRun);
  const say = (line: string) => void log.line(`[${agent.url}] ${line}`);
  // Before it is sent: should the job be killed now, the post step looks for it.
  core.saveState('run', JSON.stringify({ run: task.id, url: agent.url, key: agent.key.text, origin: task.origin }));
  const delivery: Delivery = {
    agent,
    key: inputs.signingKey,
    ...(inputs.oidc ? { idToken } : {}),
    connectTimeout: inputs.connectTimeout,
    timeout: inputs.timeout,
    say,
    onAccepted: (accepted, name) => {
      report = new Report(log, name, task.dryRun);
      current = { task, delivery, accepted: true };
      say(`run ${accepted}`);
    },
  };
  current = { task, delivery, accepted: false };
  const events = deliver(task, delivery);
  try {
    let next = await events.next();
    for (; !next.done; next = await events.next()) await report.event(next.value);
    await report.receipt(next.value);
    core.saveState('done', next.value.run);
    return next.value;
  } catch (error) {
    // The job says itself how this ended: the post step has nothing to find out.
    if (error instanceof Refused) core.saveState('done', task.id);
    throw error;
  } finally {
    current = undefined;
    await report.end();
  }
}

/** What is being delivered right now. */
let current: { task: Task; delivery: Delivery; accepted: boolean } | undefined;
/** GitHub's runner kills 7.5 s after SIGINT and 2.5 s after SIGTERM. */
const CANCEL_PATIENCE = 5_000;

/**
 * A signal means that the workflow is cancelled: the agent is asked to end the run, and how it does is followed for as
 * long as GitHub lets this process live. The post step tells the rest.
 */
async function stop(signal: string): Promise<void> {
  if (!current) {
    process.stdout.write(`\nThe job was stopped (${signal}). No agent has been sent a command.\n`);
    process.exit(1);
  }
  const { task, delivery } = current;
  process.stdout.write(`\nThe job was stopped (${signal}): cancelling the run ${task.id}.\n`);
  let said: string;
  let taken = false;
  try {
    taken = await cancel(task.id, task, delivery, CANCEL_PATIENCE);
    said = taken
      ? 'The agent stops the run, repairs and undoes it.'
      : 'The agent can’t be reached: the run goes on at the host.';
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    said = error.message;
  }
  process.stdout.write(`${said}\n`);
  if (current?.accepted) return;
  if (!taken) core.saveState('done', task.id);
  process.exit(1);
}

let signals = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (++signals === 1) stop(signal).catch(() => process.exit(1));
  });
}

if (core.getState('isPost') === 'true') await post(log);
else {
  core.saveState('isPost', 'true');
  await main();
}
// Idle connections to GitHub's API would keep the process for seconds.
process.exit();
