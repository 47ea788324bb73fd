import { createHash, randomUUID } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { graphLines, graphOf, hasParallel } from '../../../intents/graph.ts';
import { type LoadedIntent, loadIntents } from '../../../intents/load.ts';
import { InvalidIntents } from '../../../intents/problem.ts';
import { listRequiredBackups } from '../../../intents/required-backups.ts';
import type { ShippedFile } from '../../../protocol/command.ts';
import { Config, readConfig } from '../../config/load.ts';
import { siteOf } from '../../config/site.ts';
import { executors } from '../../executors/index.ts';
import { describeStep } from '../../plan/describe.ts';
import { Failure } from '../../plan/failure.ts';
import type { Plan } from '../../plan/plan.ts';
import type { LocalCommand } from '../../server/local-api.ts';
import { blindHostReader } from '../../system/host-reader.ts';
import type { Arguments, Options } from '../commands.ts';
import { printError } from '../exit.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { parseParams } from '../params.ts';
import { showLog } from '../print-run.ts';
import { cliRefusals } from '../refusals.ts';
import { createRemoteAgent } from '../remote.ts';
import { CONFIG } from '../shared-options.ts';
import { isSuccessful } from './runs.ts';

/** Executes a file of intents on an agent; with `--dry-run` shows every step without any agent. */
export async function runCommand([file]: Arguments<'run'>, options: Options<'run'>): Promise<number> {
  try {
    const params = parseParams(options.param);
    const own = [{ file, text: readFileSync(file, 'utf8') }];
    const backups = listRequiredBackups(loadIntents(own, params)).map(name => readSibling(file, name));
    const loaded = loadIntents([...backups, ...own], params);
    if (options['dry-run']) return await dryRun(loaded, options);
    return await sendRun(loaded, params, { ...options, config: options.config ?? CONFIG.default });
  } catch (error) {
    return printRefusal(error);
  }
}

/** Reads the intent file of a name, in the folder of another file. */
function readSibling(file: string, name: string): { file: string; text: string } {
  const paths = ['.yaml', '.yml', ''].map(ending => join(dirname(file), name + ending));
  const found = paths.find(existsSync) ?? paths[0] ?? '';
  return { file: found, text: readFileSync(found, 'utf8') };
}

/** Sends the rollback intent that the arguments describe. */
export async function rollbackCommand([stack]: Arguments<'rollback'>, options: Options<'rollback'>): Promise<number> {
  try {
    const { to } = options;
    const intent = { action: 'rollback', stack, ...(to === undefined ? {} : { to }) };
    const loaded = loadIntents([{ file: 'rollback.yaml', text: JSON.stringify(intent) }]);
    return await sendRun(loaded, {}, options);
  } catch (error) {
    return printRefusal(error);
  }
}

function printRefusal(error: unknown): number {
  if (error instanceof InvalidIntents) printError(error.message);
  else if (error instanceof Failure) printError(`${error.code}: ${error.message} ${error.remedy}`);
  else throw error;
  return 1;
}

type SendOptions = Omit<Options<'rollback'>, 'to'>;

async function sendRun(loaded: LoadedIntent[], params: Record<string, string>, options: SendOptions): Promise<number> {
  const hosts = new Set(loaded.flatMap(({ intent }) => intent.host ?? []));
  if (hosts.size > 1 || loaded.some(({ intent }) => intent.hosts !== undefined)) throw cliRefusals.severalHosts();
  const type = options.plan ? 'plan' : 'run';
  const files = loaded.flatMap(({ intent }) =>
    intent.action === 'rollout' && intent.source_dir !== undefined ? shippedFrom(intent.source_dir, intent.stack) : [],
  );
  const remote = createRemoteAgent(options);
  const task = { type, intents: loaded, files, params, dryRun: false } as const;
  if (remote && options.detach) return printId(await remote.start(task), options.json);
  if (remote) {
    if (!options.json) for (const line of graphLines(loaded)) console.log(line);
    return isSuccessful(await remote.show(task)) ? 0 : 1;
  }
  const command: LocalCommand = {
    ...{ type, id: randomUUID(), actor: userInfo().username },
    intents: loaded.map(({ name, document, documents, intent }) => ({ name, document, documents, intent })),
    ...{ files, params },
  };
  const socket = findSocket(options);
  const { run: id } = await requestAgent<{ run: string }>(socket, 'POST', '/runs', command);
  if (options.detach) return printId(id, options.json);
  if (!options.json) for (const line of [`run ${id}`, ...graphLines(loaded)]) console.log(line);
  const receipt = await showLog(socket, id, {
    ...{ follow: true, json: options.json, parallel: hasParallel(graphOf(loaded)) },
  });
  if (receipt) return isSuccessful(receipt) ? 0 : 1;
  printError(`The agent stopped before the run ended. Follow it with: chatops logs ${id} -f`);
  return 1;
}

function printId(run: string, json: boolean): number {
  console.log(json ? JSON.stringify({ run }) : run);
  return 0;
}

async function dryRun(loaded: LoadedIntent[], { config, json }: Options<'run'>): Promise<number> {
  const site = siteOf(
    config === undefined
      ? Config.parse({ agent: 'here', trust: [PLACEHOLDER_ENTRY], backups: allowNamedPaths(loaded) })
      : readConfig(config),
  );
  const plans: { document: number; plan: Plan }[] = [];
  for (const one of loaded) plans.push({ document: one.document, plan: await planWithoutHost(one, site) });
  if (json) console.log(JSON.stringify(plans, null, 2));
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
      configs: join(site.memory, '../runs/dry-run', `compose-${document}`),
      wantsDiff: false,
    },
    blindHostReader,
  );
}

function formatPlan(plan: Plan): string[] {
  return [`[DRY-RUN] ${plan.title}`, ...plan.steps.map(step => `[DRY-RUN]   ${step.name}: ${describeStep(step)}`)];
}

/** Returns the files below a folder of the working directory, as a rollout ships them. */
function shippedFrom(folder: string, stack: string): ShippedFile[] {
  if (!existsSync(folder)) {
    throw new Failure(
      'source-dir-missing',
      `The working directory has no folder "${folder}".`,
      'Run this command from the top of the repository, or correct source_dir.',
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

/** Allows the paths that the intents name: a dry run without agent.yaml has no policy to check them against. */
function allowNamedPaths(loaded: LoadedIntent[]): object {
  const paths = loaded.flatMap(({ intent }) => {
    const named = 'destination' in intent ? intent.destination : 'of' in intent ? intent.from : undefined;
    return named === undefined ? [] : [named.replace(/(?<=.)\/+$/, '')];
  });
  return {
    destinations: paths.filter(path => path.startsWith('/')).map(path => ({ path })),
    remotes: [...new Set(paths.filter(path => !path.startsWith('/') && path.includes('/')))].map(target => ({
      target,
    })),
    restic: { password_file: '/etc/chatops/restic.password' },
  };
}

/** The schema of agent.yaml requires a trust entry, which a dry run does not use. */
const PLACEHOLDER_ENTRY = {
  name: 'nobody',
  key: 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=',
  repository: 'nobody/nothing',
  allow: [{ actions: ['rollout'], stacks: ['none'] }],
};
