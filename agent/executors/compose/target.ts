import { type ContainerListing, composeContainersPath, composeLabel } from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import { findRoot } from '../../plan/paths.ts';
import type { ComposeProject, HostReader, ReadResult } from '../../plan/plan.ts';
import type { HostSite, Intent, PathClaim, ShippedFileRef, Switch } from '../executor.ts';

export type StackIntent = Extract<Intent, { action: 'rollout' | 'scale' | 'rollback' }>;

/** In compose's search order. */
const COMPOSE_FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'];

/** The oldest Docker Compose on which the tests run. Older ones read the checked config and variables in other ways. */
export const COMPOSE_MINIMUM = [2, 26] as const;
const VERSION_FOR = 600_000;

/** Suffix of the second project name of blue-green. */
export const GREEN = '-green';

/** A stack on this host: its folder and its project. */
export interface ComposeTarget {
  dir: string;
  /** The project name that the stack has by agent.yaml or by its folder. */
  ownName: string;
  /** The project name that it runs under: that name, or after blue-green the second one. */
  name: string;
  /** The services of the intent. */
  project: ComposeProject;
  /** Every service of the stack. */
  whole: ComposeProject;
}

function stackDir(intent: StackIntent, site: HostSite): string {
  return `${site.stacksRoot}/${intent.stack}`;
}

/** Returns the absolute path of the intent's compose file; undefined if compose finds it by itself. */
export function composeFile(intent: StackIntent, site: HostSite): string | undefined {
  if (intent.compose === undefined) return undefined;
  return intent.compose.startsWith('/') ? intent.compose : `${stackDir(intent, site)}/${intent.compose}`;
}

/** Claims the stack's folder, and the compose file and the switch file that the intent names. */
export function listStackClaims(intent: StackIntent, site: HostSite): PathClaim[] {
  const dir = stackDir(intent, site);
  const file = composeFile(intent, site);
  const switchOver = intent.action === 'rollout' ? intent.switch : undefined;
  const switchClaims = switchOver && 'file' in switchOver ? [claimSwitchFile(switchOver, dir, intent.stack, site)] : [];
  return [
    { path: dir, root: site.stacksRoot },
    ...(file === undefined ? [] : [{ path: file, root: dir }]),
    ...switchClaims,
  ];
}

/** Returns the file that blue-green writes for a proxy, and the folder that must hold it: the stack's own, or one of agent.yaml. */
export function claimSwitchFile(
  { file }: Extract<Switch, { file: string }>,
  dir: string,
  stack: string,
  site: HostSite,
): PathClaim {
  const path = file.startsWith('/') ? file : `${dir}/${file}`;
  return { path, root: findRoot(path, [dir, ...site.switchFoldersOf(stack)]) };
}

/**
 * Finds the stack and its compose file. `files` are the files that the rollout ships: one of them may be the compose
 * file. Throws Failure: `stack-missing`, `compose-file-missing`, `compose-too-old`, `program-missing`.
 */
export async function findTarget(
  intent: StackIntent,
  site: HostSite,
  host: HostReader,
  files: ShippedFileRef[] = [],
): Promise<ComposeTarget> {
  const dir = stackDir(intent, site);
  const ships = files.map(file => file.path);
  const named = composeFile(intent, site);
  const names = await host.list(dir);
  if (names === null) {
    throw new Failure(
      'stack-missing',
      `There is no folder ${dir} on the host.`,
      'Create the folder, or correct the name of the stack.',
    );
  }
  const hadComposeFile = await hasComposeFile(dir, named, names, host);
  const shipsComposeFile = ships.some(path =>
    named === undefined ? COMPOSE_FILES.includes(path) : `${dir}/${path}` === named,
  );
  if (hadComposeFile === false && !shipsComposeFile) {
    throw new Failure(
      'compose-file-missing',
      named === undefined ? `${dir} holds no compose file.` : `The compose file ${named} does not exist.`,
      `Put ${named ?? `${dir}/compose.yaml`} there, or ship it with "source_dir".`,
    );
  }
  await checkVersion(site, host);
  const ownName = site.compose.rulesOf(intent.stack).project;
  const green = await greenProject(dir, ownName, host);
  const whole: ComposeProject = { dir, ...(green === undefined ? {} : { name: green }) };
  const service = 'service' in intent ? intent.service : undefined;
  return {
    ...{ dir, ownName, name: green ?? ownName, whole },
    project: { ...whole, ...(service === undefined ? {} : { services: [service] }) },
  };
}

/** Returns the second project name if the stack runs under it after a blue-green rollout. */
async function greenProject(dir: string, ownName: string, host: HostReader): Promise<string | undefined> {
  const listed = (await host.engine(composeContainersPath({ dir }))) as ReadResult<ContainerListing[]>;
  const names = new Set((listed ?? []).map(container => composeLabel(container, 'project')));
  const [only] = names;
  return names.size === 1 && only === `${ownName}${GREEN}` ? only : undefined;
}

async function hasComposeFile(
  dir: string,
  named: string | undefined,
  names: ReadResult<string[]>,
  host: HostReader,
): Promise<boolean | undefined> {
  if (!names) return undefined;
  if (named === undefined) {
    if (names.some(name => COMPOSE_FILES.includes(name))) return true;
    // Compose reads the names of its files from here too.
    return names.includes('.env') && /^\s*COMPOSE_FILE=/m.test((await host.read(`${dir}/.env`)) ?? '');
  }
  const slash = named.lastIndexOf('/');
  const siblings = named.slice(0, slash) === dir ? names : await host.list(named.slice(0, slash));
  return siblings?.includes(named.slice(slash + 1)) ?? false;
}

async function checkVersion(site: HostSite, host: HostReader): Promise<void> {
  const answer = await host.ask([site.docker, 'compose', 'version', '--short'], { keepFor: VERSION_FOR });
  if (!answer) return;
  const isSupported = isSupportedCompose(answer.stdout);
  if (answer.code !== 0 || isSupported === undefined) {
    throw new Failure(
      'program-missing',
      `"${site.docker} compose version" does not answer: ${answer.stderr.trim().slice(0, 200) || 'no output'}`,
      `Install Docker Compose ${COMPOSE_MINIMUM.join('.')} or newer on the host.`,
    );
  }
  if (!isSupported) {
    throw new Failure(
      'compose-too-old',
      `Docker Compose ${answer.stdout.trim()} is too old.`,
      `Install Docker Compose ${COMPOSE_MINIMUM.join('.')} or newer on the host.`,
    );
  }
}

/** Returns true for a version from {@link COMPOSE_MINIMUM} up, undefined for a text that is not a version. */
export function isSupportedCompose(version: string): boolean | undefined {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version.trim()) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  const [minMajor, minMinor] = COMPOSE_MINIMUM;
  return Number(major) > minMajor || (Number(major) === minMajor && Number(minor) >= minMinor);
}
