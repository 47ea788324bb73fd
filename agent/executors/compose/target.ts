import { type Answer, CannotPlan, type ComposeProject, type Look } from '../../plan.ts';
import type { Claim, Intent, Site } from '../executor.ts';

type OnStack = Extract<Intent, { action: 'rollout' | 'scale' }>;

/** In compose's own order of search. */
const COMPOSE_FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'];
/** `config --format json`, `--progress` and `ps` as they are today. */
const MINIMUM = [2, 21] as const;
const VERSION_FOR = 600_000;

/** The stack on this host: where it is, and how compose is called for it. */
export interface Target {
  dir: string;
  /** Whether the folder had a compose file before; undefined: not known. */
  hadComposeFile: boolean | undefined;
  project: ComposeProject;
  /** argv of a compose command for this stack. */
  compose(...args: string[]): [string, ...string[]];
}

export function stackDir(intent: OnStack, site: Site): string {
  return `${site.stacksRoot}/${intent.stack}`;
}

/** The intent's compose file as an absolute path, or undefined where compose looks for one itself. */
export function composeFile(intent: OnStack, site: Site): string | undefined {
  if (intent.compose === undefined) return undefined;
  return intent.compose.startsWith('/') ? intent.compose : `${stackDir(intent, site)}/${intent.compose}`;
}

/** Both the stack's folder and a compose file that is named must stay in their place. */
export function claimsOf(intent: OnStack, site: Site): Claim[] {
  const dir = stackDir(intent, site);
  const file = composeFile(intent, site);
  return [{ path: dir, root: site.stacksRoot }, ...(file === undefined ? [] : [{ path: file, root: dir }])];
}

/**
 * Finds the stack and its compose file. `ships` are the files that the rollout brings along: one of them may be the
 * compose file. Throws CannotPlan: `stack-missing`, `compose-file-missing`, `compose-too-old`, `program-missing`.
 */
export async function findTarget(intent: OnStack, site: Site, look: Look, ships: string[] = []): Promise<Target> {
  const dir = stackDir(intent, site);
  const named = composeFile(intent, site);
  const names = await look.list(dir);
  if (names === null) {
    throw new CannotPlan(
      'stack-missing',
      `There is no folder ${dir} on the host.`,
      'Make the folder, or correct the stack’s name.',
    );
  }
  const hadComposeFile = await hasComposeFile(dir, named, names, look);
  const brings = ships.some(path => (named === undefined ? COMPOSE_FILES.includes(path) : `${dir}/${path}` === named));
  if (hadComposeFile === false && !brings) {
    throw new CannotPlan(
      'compose-file-missing',
      named === undefined ? `${dir} holds no compose file.` : `${named} is not there.`,
      `Put ${named ?? `${dir}/compose.yaml`} there, or ship it with "source_dir".`,
    );
  }
  await checkVersion(site, look);
  const file = named === undefined ? [] : ['--file', named];
  return {
    dir,
    hadComposeFile,
    project: { dir, ...(intent.service === undefined ? {} : { services: [intent.service] }) },
    compose: (...args) => [
      site.docker,
      'compose',
      '--ansi',
      'never',
      '--progress',
      'plain',
      '--project-directory',
      dir,
      ...file,
      ...args,
    ],
  };
}

async function hasComposeFile(
  dir: string,
  named: string | undefined,
  names: Answer<string[]>,
  look: Look,
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

async function checkVersion(site: Site, look: Look): Promise<void> {
  const answer = await look.ask([site.docker, 'compose', 'version', '--short'], { keepFor: VERSION_FOR });
  if (!answer) return;
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(answer.stdout.trim()) ?? [];
  if (answer.code !== 0 || major === undefined || minor === undefined) {
    throw new CannotPlan(
      'program-missing',
      `"${site.docker} compose version" does not answer: ${answer.stderr.trim().slice(0, 200) || 'no output'}`,
      'Install Docker Compose 2.21 or newer on the host.',
    );
  }
  if (Number(major) < MINIMUM[0] || (Number(major) === MINIMUM[0] && Number(minor) < MINIMUM[1])) {
    throw new CannotPlan(
      'compose-too-old',
      `Docker Compose ${answer.stdout.trim()} is too old.`,
      `Install Docker Compose ${MINIMUM.join('.')} or newer on the host.`,
    );
  }
}
