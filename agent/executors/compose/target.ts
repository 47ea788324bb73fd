import { Failure } from '../../plan/failure.ts';
import type { ComposeProject, HostReader, ReadResult } from '../../plan/plan.ts';
import type { HostSite, Intent, PathClaim, ShippedFileRef } from '../executor.ts';

export type StackIntent = Extract<Intent, { action: 'rollout' | 'scale' | 'rollback' }>;

/** In compose's own order of search. */
const COMPOSE_FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'];

/** The oldest Docker Compose whose `config --format json`, `--progress` and `ps` the agent understands. */
export const COMPOSE_MINIMUM = [2, 21] as const;
const VERSION_FOR = 600_000;

/** The project that blue-green takes turns with. */
export const GREEN = '-green';

/** Which compose files and project a compose command is about, where they are not the ones that compose finds itself. */
export interface ComposeVariant {
  files?: string[] | undefined;
  project?: string | undefined;
}

/** The stack on this host: where it is, and how compose is called for it. */
export interface ComposeTarget {
  dir: string;
  /** Whether the folder had a compose file before; undefined: not known. */
  hadComposeFile: boolean | undefined;
  /** The intent's services. */
  project: ComposeProject;
  /** Every service of the stack. */
  whole: ComposeProject;
  /** The compose file that lies on the host, absolute; undefined where there is none or it is not known which. */
  file: string | undefined;
  /** argv of a compose command for this stack. */
  compose(args: string[], variant?: ComposeVariant): [string, ...string[]];
}

export function stackDir(intent: StackIntent, site: HostSite): string {
  return `${site.stacksRoot}/${intent.stack}`;
}

/** The intent's compose file as an absolute path, or undefined where compose looks for one itself. */
export function composeFile(intent: StackIntent, site: HostSite): string | undefined {
  if (intent.compose === undefined) return undefined;
  return intent.compose.startsWith('/') ? intent.compose : `${stackDir(intent, site)}/${intent.compose}`;
}

/** Both the stack's folder and a compose file that is named must stay in their place. */
export function listStackClaims(intent: StackIntent, site: HostSite): PathClaim[] {
  const dir = stackDir(intent, site);
  const file = composeFile(intent, site);
  const to = intent.action === 'rollout' ? intent.switch : undefined;
  const read =
    to && 'file' in to
      ? [{ path: to.file.startsWith('/') ? to.file : `${dir}/${to.file}`, root: site.stacksRoot }]
      : [];
  return [{ path: dir, root: site.stacksRoot }, ...(file === undefined ? [] : [{ path: file, root: dir }]), ...read];
}

/**
 * Finds the stack and its compose file. `ships` are the files that the rollout brings along: one of them may be the
 * compose file. Throws Failure: `stack-missing`, `compose-file-missing`, `compose-too-old`, `program-missing`.
 */
export async function findTarget(
  intent: StackIntent,
  site: HostSite,
  look: HostReader,
  files: ShippedFileRef[] = [],
): Promise<ComposeTarget> {
  const dir = stackDir(intent, site);
  const ships = files.map(file => file.path);
  const named = composeFile(intent, site);
  const names = await look.list(dir);
  if (names === null) {
    throw new Failure(
      'stack-missing',
      `There is no folder ${dir} on the host.`,
      'Make the folder, or correct the stack’s name.',
    );
  }
  const hadComposeFile = await hasComposeFile(dir, named, names, look);
  const brings = ships.some(path => (named === undefined ? COMPOSE_FILES.includes(path) : `${dir}/${path}` === named));
  if (hadComposeFile === false && !brings) {
    throw new Failure(
      'compose-file-missing',
      named === undefined ? `${dir} holds no compose file.` : `${named} is not there.`,
      `Put ${named ?? `${dir}/compose.yaml`} there, or ship it with "source_dir".`,
    );
  }
  await checkVersion(site, look);
  const green = await greenProject(dir, look);
  const found = names && COMPOSE_FILES.find(name => names.includes(name));
  const whole: ComposeProject = { dir, ...(green === undefined ? {} : { name: green }) };
  const service = 'service' in intent ? intent.service : undefined;
  return {
    dir,
    hadComposeFile,
    project: { ...whole, ...(service === undefined ? {} : { services: [service] }) },
    whole,
    file: hadComposeFile ? (named ?? (found ? `${dir}/${found}` : undefined)) : undefined,
    compose: (args, { files: other, project = green } = {}) => [
      site.docker,
      'compose',
      '--ansi',
      'never',
      '--progress',
      'plain',
      '--project-directory',
      dir,
      ...(project === undefined ? [] : ['--project-name', project]),
      ...(other ?? (named === undefined ? [] : [named])).flatMap(file => ['--file', file]),
      ...args,
    ],
  };
}

/** The compose file that a rollout brings along, where it brings one. */
export function shippedComposeFile(
  intent: StackIntent,
  site: HostSite,
  files: ShippedFileRef[],
): ShippedFileRef | undefined {
  const named = composeFile(intent, site);
  const dir = stackDir(intent, site);
  if (named !== undefined) return files.find(({ path }) => `${dir}/${path}` === named);
  for (const name of COMPOSE_FILES) {
    const found = files.find(({ path }) => path === name);
    if (found) return found;
  }
  return undefined;
}

/** After a blue-green rollout the stack may live in the project that bears the second name. */
async function greenProject(dir: string, look: HostReader): Promise<string | undefined> {
  const label = [`com.docker.compose.project.working_dir=${dir}`, 'com.docker.compose.oneoff=False'];
  const listed = (await look.engine(
    `/containers/json?all=1&filters=${encodeURIComponent(JSON.stringify({ label }))}`,
  )) as ReadResult<{ Labels: Record<string, string> }[]>;
  const names = new Set((listed ?? []).map(({ Labels }) => Labels['com.docker.compose.project'] ?? ''));
  const [only] = names;
  return names.size === 1 && only?.endsWith(GREEN) ? only : undefined;
}

async function hasComposeFile(
  dir: string,
  named: string | undefined,
  names: ReadResult<string[]>,
  look: HostReader,
): Promise<boolean | undefined> {
  if (!names) return undefined;
  if (named === undefined) {
    if (names.some(name => COMPOSE_FILES.includes(name))) return true;
    // compose reads the files' names from here too.
    return names.includes('.env') && /^\s*COMPOSE_FILE=/m.test((await look.read(`${dir}/.env`)) ?? '');
  }
  const slash = named.lastIndexOf('/');
  const beside = named.slice(0, slash) === dir ? names : await look.list(named.slice(0, slash));
  return beside?.includes(named.slice(slash + 1)) ?? false;
}

async function checkVersion(site: HostSite, look: HostReader): Promise<void> {
  const answer = await look.ask([site.docker, 'compose', 'version', '--short'], { keepFor: VERSION_FOR });
  if (!answer) return;
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(answer.stdout.trim()) ?? [];
  if (answer.code !== 0 || major === undefined || minor === undefined) {
    throw new Failure(
      'program-missing',
      `"${site.docker} compose version" does not answer: ${answer.stderr.trim().slice(0, 200) || 'no output'}`,
      `Install Docker Compose ${COMPOSE_MINIMUM.join('.')} or newer on the host.`,
    );
  }
  if (
    Number(major) < COMPOSE_MINIMUM[0] ||
    (Number(major) === COMPOSE_MINIMUM[0] && Number(minor) < COMPOSE_MINIMUM[1])
  ) {
    throw new Failure(
      'compose-too-old',
      `Docker Compose ${answer.stdout.trim()} is too old.`,
      `Install Docker Compose ${COMPOSE_MINIMUM.join('.')} or newer on the host.`,
    );
  }
}
