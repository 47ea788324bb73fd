import { type ContainerDetails, composeLabel } from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import type {
  CheckBackupStep,
  FailureReason,
  HostReader,
  Milliseconds,
  SecretSource,
  StartStep,
  Step,
} from '../../plan/plan.ts';
import type { DatabaseLogin, HostSite } from '../executor.ts';
import { findRunning } from './group.ts';

const MINUTE = 60_000;
export const SHORT_TIMEOUT = { timeout: 10 * MINUTE };
/** The tries, one a second, until a scratch server answers. */
const START_TRIES = 120;

/** A database server: in a container, or on the host, known by the folder of its socket. */
export interface DatabaseServer {
  /** The name in agent.yaml: the container's name, or the folder. */
  name: string;
  container: ContainerDetails | undefined;
  /** The container's id, for `docker exec`. Of a server on the host: its name. */
  at: string;
  socket?: string;
  user: string;
  password: SecretSource | undefined;
}

export interface ServerFields {
  source_container?: string | undefined;
  source?: string | undefined;
  user?: string | undefined;
}

/**
 * Returns the server and the user to connect as: of the intent, of agent.yaml, or of the container's variables. `passwords`:
 * returns the variables that hold that user's password. Throws Failure: `container-missing`, `container-stopped`,
 * `database-stack`.
 */
export async function findServer(
  { source_container: container, source, user }: ServerFields,
  defaults: { user: string; variable?: string; passwords: (user: string, own: string | undefined) => string[] },
  site: HostSite,
  host: HostReader,
): Promise<DatabaseServer> {
  const name = container ?? source ?? '';
  const found = container === undefined ? undefined : await findRunning(container, host);
  const known = site.backups.databases.find(({ server }) => server === name);
  if (known?.password_file !== undefined && found) requireStack(known, found, site);
  const own = defaults.variable === undefined ? undefined : variableOf(found, defaults.variable);
  const as = user ?? known?.user ?? own ?? defaults.user;
  const variables = defaults.passwords(as, own);
  return {
    name,
    container: found,
    at: found?.Id ?? name,
    ...(source === undefined ? {} : { socket: source }),
    user: as,
    password:
      known?.password_file !== undefined
        ? { file: known.password_file }
        : container !== undefined && variables.length > 0
          ? { container: found?.Id ?? name, variables }
          : undefined,
  };
}

/** A container's name is not enough for the host's password: another stack may bear it. Throws Failure `database-stack`. */
function requireStack({ server, stack }: DatabaseLogin, { Config }: ContainerDetails, { stacksRoot }: HostSite): void {
  const folder = composeLabel(Config, 'project.working_dir');
  const isOther = stack === false ? composeLabel(Config, 'project') !== '' : folder !== `${stacksRoot}/${stack}`;
  if (!isOther) return;
  throw new Failure(
    'database-stack',
    `The container ${server} does not get the password of agent.yaml: compose ${folder === '' ? 'did not start it' : `started it in ${folder}`}, and agent.yaml says stack: ${stack}. Nothing was changed.`,
    'Correct "stack" of the server under backups.databases in agent.yaml, or name the right container.',
  );
}

function variableOf(container: ContainerDetails | undefined, name: string): string | undefined {
  return container?.Config?.Env?.find(line => line.startsWith(`${name}=`))?.slice(name.length + 1);
}

interface ServerCallOptions extends Partial<Omit<StartStep, 'do' | 'name' | 'argv'>> {
  timeout: Milliseconds;
  failure: StartStep['failure'];
}

/**
 * Starts a program of the server. In a container, `timeout` ends it even if the agent is gone, and its environment has the
 * mark by which the agent finds and ends it.
 */
export function planServerCall(
  name: string,
  argv: [string, ...string[]],
  server: Pick<DatabaseServer, 'at' | 'socket' | 'password'>,
  variable: string,
  site: HostSite,
  options: ServerCallOptions,
): StartStep {
  const secrets = server.password === undefined ? {} : { secrets: { [variable]: server.password } };
  if (server.socket !== undefined) return { do: 'start', name, argv, ...secrets, ...options };
  const seconds = String(Math.ceil(options.timeout / 1000));
  const environment = ['--env', 'CHATOPS_STEP', ...(server.password ? ['--env', variable] : [])];
  return {
    do: 'start',
    name,
    argv: [
      site.docker,
      ...['exec', ...(options.stdinFrom === undefined ? [] : ['--interactive']), ...environment, server.at],
      ...['timeout', '-k', '30', seconds, ...argv],
    ],
    ...secrets,
    ...options,
    reasons: [...(options.reasons ?? []), ...IN_CONTAINER],
  };
}

const IN_CONTAINER: FailureReason[] = [
  {
    says: 'is not running',
    code: 'container-stopped',
    remedy: 'Read the container’s log with "docker logs": it stopped during the step.',
  },
  {
    exit: [126, 127],
    code: 'program-missing',
    remedy: 'Use an image that has the program which the output names. "timeout" is needed, too.',
  },
];

/** Starts a scratch container without network, of the image that a backup was made with. */
export function planScratchContainer(
  run: string,
  image: string,
  site: HostSite,
  server: { tmpfs: string; env: string[]; ready: [string, ...string[]]; waiting: string[] },
): { name: string; steps: Step[]; cleanup: Step[] } {
  const name = `chatops-drill-${run}`.slice(0, 60);
  const failure = { code: 'drill-failed', remedy: 'Read the step’s output. The backup itself is untouched.' };
  const docker = (step: string, argv: string[], more: Partial<StartStep> = {}): StartStep => ({
    do: 'start',
    name: step,
    argv: [site.docker, ...argv],
    ...SHORT_TIMEOUT,
    repeatable: true,
    failure,
    ...more,
  });
  return {
    name,
    steps: [
      docker(
        'start a throw-away server',
        [
          ...['run', '--detach', '--pull', 'never', '--network', 'none', '--name', name, '--label', 'chatops=drill'],
          ...['--tmpfs', server.tmpfs],
          ...server.env.flatMap(one => ['--env', one]),
          image,
        ],
        {
          okCodes: [0],
          reasons: [
            {
              says: 'No such image',
              code: 'image-gone',
              remedy: 'Pull the image that the backup was made with: this host no longer has it. Or make a new backup.',
            },
          ],
        },
      ),
      docker('wait for it', ['exec', name, ...server.ready], {
        retry: [{ on: server.waiting, times: START_TRIES, pause: 1_000 }],
        failure: { code: 'drill-failed', remedy: 'Read the step’s output: the scratch server did not start.' },
      }),
    ],
    cleanup: [
      docker('remove the throw-away server', ['rm', '--force', '--volumes', name], {
        okCodes: [0, 1],
        ifBegan: 'start a throw-away server',
      }),
    ],
  };
}

export function planBackupCheck(folder: string, root: string, backup: string): CheckBackupStep {
  return { do: 'check-backup', name: 'check the backup', folder, root, backup };
}
