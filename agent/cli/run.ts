import { createHash, randomUUID } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { graphLines } from '../../intents/graph.ts';
import { type LoadedIntent, loadIntents } from '../../intents/load.ts';
import { InvalidIntents } from '../../intents/problem.ts';
import { listRequiredBackups } from '../../intents/required-backups.ts';
import type { ShippedFile } from '../../protocol/command.ts';
import { Config, readConfig } from '../config/load.ts';
import { siteOf } from '../config/site.ts';
import { executors } from '../executors/index.ts';
import { describeStep } from '../plan/describe.ts';
import { Failure } from '../plan/failure.ts';
import type { Plan } from '../plan/plan.ts';
import type { LocalCommand } from '../server/local-api.ts';
import { blindHostReader } from '../system/host-reader.ts';
import { AGENT_OPTIONS, findSocket, requestAgent } from './local-client.ts';
import { parseParams } from './params.ts';
import { showLog } from './print-run.ts';
import { cliRefusals } from './refusals.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';
import { isSuccessful } from './runs.ts';

const USAGE = `usage: chatops run FILE [--plan | --dry-run] [--param name=value …] [--detach] [--json] [--config FILE | --socket PATH]
       chatops run FILE … --agent ws://NAME:8000 --agent-key KEY --signing-key-file FILE [--as NAME]
`;

/** Has the agent of this host carry out a file of intents; with --dry-run shows what it means, without any agent. */
export async function runCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...AGENT_OPTIONS,
      ...REMOTE_OPTIONS,
      config: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
      plan: { type: 'boolean', default: false },
      detach: { type: 'boolean', default: false },
      param: { type: 'string', multiple: true, default: [] },
    },
  });
  const [file] = positionals;
  if (file === undefined || positionals.length > 1) {
    throw cliRefusals.wrongCall(USAGE);
  }
  try {
    const params = parseParams(values.param);
    const own = [{ file, text: readFileSync(file, 'utf8') }];
    const before = listRequiredBackups(loadIntents(own, params)).map(name => readBeside(file, name));
    const loaded = loadIntents([...before, ...own], params);
    if (values['dry-run']) return await dryRun(loaded, values);
    const { config = AGENT_OPTIONS.config.default, ...rest } = values;
    return await sendRun(loaded, params, { ...rest, config });
  } catch (error) {
    return printRefusal(error);
  }
}

/** The intent file of that name in the folder of the other. */
function readBeside(file: string, name: string): { file: string; text: string } {
  const paths = ['.yaml', '.yml', ''].map(ending => join(dirname(file), name + ending));
  const found = paths.find(existsSync) ?? paths[0] ?? '';
  return { file: found, text: readFileSync(found, 'utf8') };
}

/** `rollback` as the intent that it stands for. */
export async function rollbackCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...AGENT_OPTIONS,
      ...REMOTE_OPTIONS,
      to: { type: 'string' },
      plan: { type: 'boolean', default: false },
      detach: { type: 'boolean', default: false },
    },
  });
  const [stack] = positionals;
  if (stack === undefined || positionals.length > 1) {
    throw cliRefusals.wrongCall(
      'usage: chatops rollback STACK [--to RUN] [--plan] [--detach] [--json] [--config FILE | --socket PATH | --agent …]',
    );
  }
  try {
    const intent = { action: 'rollback', stack, ...(values.to === undefined ? {} : { to: values.to }) };
    const loaded = loadIntents([{ file: 'rollback.yaml', text: JSON.stringify(intent) }]);
    return await sendRun(loaded, {}, values);
  } catch (error) {
    return printRefusal(error);
  }
}

function printRefusal(error: unknown): number {
  if (error instanceof InvalidIntents) process.stderr.write(`${error.message}\n`);
  else if (error instanceof Failure) process.stderr.write(`${error.code}: ${error.message} ${error.remedy}\n`);
  else throw error;
  return 1;
}

type Values = Parameters<typeof createRemoteAgent>[0] & {
  plan: boolean;
  detach: boolean;
  json: boolean;
  config: string;
  socket?: string | undefined;
};

async function sendRun(loaded: LoadedIntent[], params: Record<string, string>, values: Values): Promise<number> {
  const hosts = new Set(loaded.flatMap(({ intent }) => intent.host ?? []));
  if (hosts.size > 1 || loaded.some(({ intent }) => intent.hosts !== undefined)) throw cliRefusals.severalHosts();
  const type = values.plan ? 'plan' : 'run';
  const files = loaded.flatMap(({ intent }) =>
    intent.action === 'rollout' && intent.source_dir !== undefined ? shippedFrom(intent.source_dir, intent.stack) : [],
  );
  const remote = createRemoteAgent(values);
  const task = { type, intents: loaded, files, params, dryRun: false } as const;
  if (remote && values.detach) return printId(await remote.begin(task), values.json);
  if (remote) {
    if (!values.json) for (const line of graphLines(loaded)) console.log(line);
    return isSuccessful(await remote.show(task)) ? 0 : 1;
  }
  const command: LocalCommand = {
    ...{ type, id: randomUUID(), actor: userInfo().username },
    intents: loaded.map(({ name, document, documents, intent }) => ({ name, document, documents, intent })),
    ...{ files, params },
  };
  const socket = findSocket(values);
  const { run: id } = await requestAgent<{ run: string }>(socket, 'POST', '/runs', command);
  if (values.detach) return printId(id, values.json);
  if (!values.json) for (const line of [`run ${id}`, ...graphLines(loaded)]) console.log(line);
  const receipt = await showLog(socket, id, { follow: true, json: values.json });
  if (receipt) return isSuccessful(receipt) ? 0 : 1;
  process.stderr.write(`The agent ended while the run went on. See it with: chatops logs ${id} -f\n`);
  return 1;
}

function printId(run: string, json: boolean): number {
  console.log(json ? JSON.stringify({ run }) : run);
  return 0;
}

async function dryRun(loaded: LoadedIntent[], values: { config?: string; json: boolean }): Promise<number> {
  const site = siteOf(
    values.config === undefined
      ? Config.parse({ agent: 'here', trust: [ANY], backups: allowNamedPaths(loaded) })
      : readConfig(values.config),
  );
  const plans: { document: number; plan: Plan }[] = [];
  for (const one of loaded) plans.push({ document: one.document, plan: await planWithoutHost(one, site) });
  if (values.json) console.log(JSON.stringify(plans, null, 2));
  else for (const line of [...graphLines(loaded), ...plans.flatMap(({ plan }) => formatPlan(plan))]) console.log(line);
  return 0;
}

async function planWithoutHost(
  { intent, name, document, documents }: LoadedIntent,
  site: ReturnType<typeof siteOf>,
): Promise<Plan> {
  const executor = executors.find(one => one.supports(intent));
  if (!executor) throw new Error(`No executor takes ${intent.action}`);
  const files =
    intent.action === 'rollout' && intent.source_dir !== undefined ? shippedFrom(intent.source_dir, intent.stack) : [];
  return executor.plan(
    intent,
    {
      document: { name, document, documents, intent },
      run: 'dry-run',
      at: new Date().toISOString(),
      site,
      files: files.map(({ path, mode, sha256 }) => ({ path, mode, sha256, at: '' })),
      wantsDiff: false,
    },
    blindHostReader,
  );
}

function formatPlan(plan: Plan): string[] {
  return [`[DRY-RUN] ${plan.title}`, ...plan.steps.map(step => `[DRY-RUN]   ${step.name}: ${describeStep(step)}`)];
}

/** The files below a folder of the working directory, as a rollout ships them. */
function shippedFrom(folder: string, stack: string): ShippedFile[] {
  if (!existsSync(folder)) {
    throw new Failure(
      'source-dir-missing',
      `There is no folder "${folder}" here.`,
      'Call this from the top of the repository, or correct source_dir.',
    );
  }
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => lstatSync(path).isFile())
    .map(path => {
      const content = readFileSync(path);
      return {
        stack,
        path: relative(folder, path),
        mode: lstatSync(path).mode & 0o111 ? 0o755 : 0o644,
        sha256: createHash('sha256').update(content).digest('hex'),
        content: content.toString('base64'),
      };
    });
}

/** Without the host's policy a dry run takes what the intents name for allowed. */
function allowNamedPaths(loaded: LoadedIntent[]): object {
  const places = loaded.flatMap(({ intent }) => {
    const named = 'destination' in intent ? intent.destination : 'of' in intent ? intent.from : undefined;
    return named === undefined ? [] : [named.replace(/(?<=.)\/+$/, '')];
  });
  return {
    destinations: places.filter(path => path.startsWith('/')).map(path => ({ path })),
    remotes: [...new Set(places.filter(path => !path.startsWith('/') && path.includes('/')))].map(target => ({
      target,
    })),
    restic: { password_file: '/etc/chatops/restic.password' },
  };
}

/** A dry run trusts nobody, but a configuration without an entry is none. */
const ANY = {
  name: 'nobody',
  key: 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=',
  repository: 'nobody/nothing',
  allow: [{ actions: ['rollout'], stacks: ['none'] }],
};
