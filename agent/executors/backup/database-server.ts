import type { ContainerDetails } from '../../plan/containers.ts';
import type {
  CheckBackupStep,
  FailureReason,
  HostReader,
  Milliseconds,
  SecretSource,
  StartStep,
  Step,
} from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';
import { findRunning } from './group.ts';

const MINUTE = 60_000;
export const SHORT_TIMEOUT = { timeout: 10 * MINUTE };
/** How long a throw-away server gets until it answers, in tries of a second. */
const STARTING = 120;

/** A database server: in a container, or on the host by the folder of its socket. */
export interface DatabaseServer {
  /** As agent.yaml names it: the container's name, or the folder. */
  name: string;
  container: ContainerDetails | undefined;
  /** By which its programs are started. */
  at: string;
  socket?: string;
  user: string;
  password: SecretSource | undefined;
}

interface ServerFields {
  source_container?: string | undefined;
  source?: string | undefined;
  user?: string | undefined;
}

/**
 * The server and whom to connect as: the intent's user, agent.yaml's, or the one that the container's variables name.
 * `passwords`: variables that hold a password, for that user. Throws Failure: `container-missing`, `container-stopped`.
 */
export async function findServer(
  { source_container: container, source, user }: ServerFields,
  defaults: { user: string; variable?: string; passwords: (user: string, own: string | undefined) => string[] },
  site: HostSite,
  look: HostReader,
): Promise<DatabaseServer> {
  const name = container ?? source ?? '';
  const found = container === undefined ? undefined : await findRunning(container, look);
  const known = site.backups.databases.find(({ server }) => server === name);
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

function variableOf(container: ContainerDetails | undefined, name: string): string | undefined {
  return container?.Config?.Env?.find(line => line.startsWith(`${name}=`))?.slice(name.length + 1);
}

export interface ServerCallOptions extends Partial<Omit<StartStep, 'do' | 'name' | 'argv'>> {
  timeout: Milliseconds;
  failure: StartStep['failure'];
}

/**
 * Starts a program where the server is. In a container it ends by itself after the timeout also where the agent is gone, and
 * bears the mark by which the agent ends it.
 */
export function planServerCall(
  name: string,
  argv: [string, ...string[]],
  server: Pick<DatabaseServer, 'at' | 'socket' | 'password'>,
  variable: string,
  site: HostSite,
  calling: ServerCallOptions,
): StartStep {
  const secrets = server.password === undefined ? {} : { secrets: { [variable]: server.password } };
  if (server.socket !== undefined) return { do: 'start', name, argv, ...secrets, ...calling };
  const seconds = String(Math.ceil(calling.timeout / 1000));
  const inside = ['--env', 'CHATOPS_STEP', ...(server.password ? ['--env', variable] : [])];
  return {
    do: 'start',
    name,
    argv: [
      site.docker,
      ...['exec', ...(calling.stdinFrom === undefined ? [] : ['--interactive']), ...inside, server.at],
      ...['timeout', '-k', '30', seconds, ...argv],
    ],
    ...secrets,
    ...calling,
    reasons: [...(calling.reasons ?? []), ...IN_CONTAINER],
  };
}

const IN_CONTAINER: FailureReason[] = [
  {
    says: 'is not running',
    code: 'container-stopped',
    remedy: 'The container stopped meanwhile: see its log with "docker logs".',
  },
  {
    exit: [126, 127],
    code: 'program-missing',
    remedy:
      'The container’s image lacks the program that the output names ("timeout" is one of those that are needed).',
  },
];

/** A container that is thrown away, without network, of the image that a backup was made with. */
export function planScratchContainer(
  run: string,
  image: string,
  site: HostSite,
  how: { tmpfs: string; env: string[]; ready: [string, ...string[]]; waiting: string[] },
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
          ...['--tmpfs', how.tmpfs],
          ...how.env.flatMap(one => ['--env', one]),
          image,
        ],
        {
          // It was started by an agent that ended: it is there already.
          okCodes: [0],
          reasons: [
            {
              says: 'No such image',
              code: 'image-gone',
              remedy:
                'The image that the backup was made with is not on this host any more: pull it, or make a new backup.',
            },
          ],
        },
      ),
      docker('wait for it', ['exec', name, ...how.ready], {
        retry: [{ on: how.waiting, times: STARTING, pause: 1_000 }],
        failure: { code: 'drill-failed', remedy: 'The throw-away server did not come up: read the output.' },
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

export function planBackupCheck(folder: string, backup: string): CheckBackupStep {
  return { do: 'check-backup', name: 'check the backup', folder, backup };
}
