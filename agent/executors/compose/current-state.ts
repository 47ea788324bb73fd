import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../../plan/containers.ts';
import type {
  AwaitHealthyStep,
  CheckedConfig,
  HostReader,
  PrepareMountsStep,
  ReadResult,
  Release,
  ReleasedConfig,
  RememberStep,
  StartStep,
} from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';
import { planDockerCall } from './steps.ts';
import type { ComposeTarget } from './target.ts';

/** Number of releases of a stack that are kept for a rollback. */
const KEEP_RELEASES = 10;

/** Name of the release that ran before a stack's first rollout. */
export const FIRST_RELEASE = 'before-first-rollout';

/** The fields of a stack's container that a plan needs. */
interface StackContainer {
  id: string;
  service: string;
  project: string;
  reference: string;
  image: string;
  running: boolean;
}

/** State of a stack on the host before a change. */
export interface StackState {
  /** Undefined if not known (in a dry run). */
  containers: StackContainer[] | undefined;
  /** A killed compose left half-created containers. */
  leftovers: boolean;
  /** The newest last. */
  releases: Release[];
  /** Ids of images that a tag keeps from being pruned, by that tag. */
  kept: Map<string, string>;
}

/** Returns the options of a health check that bring the stack up again during the wait, after `prepare`. */
export function reviveOptions(
  prepare: PrepareMountsStep[],
  up: StartStep,
  state: StackState,
): { revive: NonNullable<AwaitHealthyStep['revive']> } {
  const ran = (state.containers ?? []).filter(({ running }) => running).map(({ id }) => id);
  return { revive: { prepare, up, ran } };
}

/** Describes what runs of these services (all if empty) before the rollout starts any; empty if not known. */
export function describeUnchanged({ containers }: StackState, services: string[]): string {
  if (!containers) return '';
  const isMeant = (service: string) => services.length === 0 || services.includes(service);
  return containers.some(({ service, running }) => running && isMeant(service))
    ? 'The old version still runs.'
    : 'Nothing was started.';
}

/** Returns the folder of the agent's records of a stack. */
export function stackMemoryFolder(site: HostSite, stack: string): string {
  return `${site.memory}/${stack}`;
}

/** Returns the path of the kept content of a released file or config. */
export function releasedContentPath(site: HostSite, stack: string, file: { sha256: string }): string {
  return `${stackMemoryFolder(site, stack)}/files/${file.sha256}`;
}

export async function readStackState(
  stack: string,
  target: ComposeTarget,
  site: HostSite,
  host: HostReader,
): Promise<StackState> {
  const [listed, text, images] = await Promise.all([
    host.engine(composeContainersPath({ dir: target.dir })),
    host.read(`${stackMemoryFolder(site, stack)}/releases.json`),
    host.engine(
      `/images/json?filters=${encodeURIComponent(JSON.stringify({ reference: [`${keptImageName(stack)}:*`] }))}`,
    ),
  ]);
  const tags = ((images ?? []) as { Id: string; RepoTags: string[] | null }[]).flatMap(({ Id, RepoTags }) =>
    (RepoTags ?? [])
      .filter(tag => tag.startsWith(`${keptImageName(stack)}:`))
      .map((tag): [string, string] => [tag, Id]),
  );
  return {
    containers: await readContainers(listed as ReadResult<ContainerListing[]>, host),
    leftovers: ((listed ?? []) as ContainerListing[]).some(
      ({ State, Names }) => State === 'created' && TEMPORARY.test(Names[0] ?? ''),
    ),
    releases: readReleases(text),
    kept: new Map(tags),
  };
}

/** Temporary name that compose gives a container before it replaces another one. */
const TEMPORARY = /^\/[0-9a-f]{12}_/;

async function readContainers(
  listed: ReadResult<ContainerListing[]>,
  host: HostReader,
): Promise<StackContainer[] | undefined> {
  if (listed === undefined) return undefined;
  const all = await Promise.all((listed ?? []).map(({ Id }) => host.engine(`/containers/${Id}/json`)));
  return (all as ReadResult<ContainerDetails>[]).flatMap(one =>
    one && one.State.Status !== 'created'
      ? [
          {
            id: one.Id,
            service: composeLabel(one.Config, 'service'),
            project: composeLabel(one.Config, 'project'),
            reference: one.Config.Image,
            image: one.Image,
            running: one.State.Running,
          },
        ]
      : [],
  );
}

/** Reads the releases. An unreadable record counts as none: the next release starts a new one. */
function readReleases(text: ReadResult<string>): Release[] {
  if (!text) return [];
  try {
    return (JSON.parse(text) as { releases?: Release[] }).releases ?? [];
  } catch {
    return [];
  }
}

/** Returns the release before the newest one. If the newest one was brought back by a rollback, that is the one before its original. */
export function findPreviousRelease(releases: Release[]): Release | undefined {
  const newest = releases.at(-1);
  if (!newest) return undefined;
  const { of: originalRun } = newest;
  const original = originalRun === undefined ? -1 : releases.findIndex(({ runs }) => runs.includes(originalRun));
  return original < 0 ? releases.at(-2) : releases[original - 1];
}

/** Returns the image name under which a stack's images are kept: lower case, as docker requires. */
function keptImageName(stack: string): string {
  return `chatops-kept/${stack
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')}`;
}

/** Plans a tag for each image that runs now: "docker image prune" must not remove the images that a rollback needs. */
export function planKeepImages(stack: string, state: StackState, site: HostSite): StartStep[] {
  const keptIds = new Set(state.kept.values());
  const unkept = new Set((state.containers ?? []).map(({ image }) => image).filter(image => !keptIds.has(image)));
  return [...unkept].map(image => {
    const short = image.replace('sha256:', '').slice(0, 12);
    return planDockerCall(`keep image ${short}`, [
      site.docker,
      'image',
      'tag',
      image,
      `${keptImageName(stack)}:${short}`,
    ]);
  });
}

/** Plans the removal of the kept images that no release names any more. */
export function planForgetImages(stack: string, state: StackState, site: HostSite): StartStep[] {
  // The rollout adds a release, so the oldest one is dropped.
  const neededImages = new Set(
    state.releases.slice(-(KEEP_RELEASES - 1)).flatMap(({ images }) => images.map(one => one.image)),
  );
  for (const { image } of state.containers ?? []) neededImages.add(image);
  const tags = [...state.kept].filter(([, image]) => !neededImages.has(image)).map(([tag]) => tag);
  if (tags.length === 0) return [];
  // Exit code 1: an image was removed already.
  return [planDockerCall(`forget images of ${stack}`, [site.docker, 'image', 'rm', ...tags], { okCodes: [0, 1] })];
}

/** Plans the record of the release that runs at that time. `config`: the checked config that it runs. */
export function planRemember(
  name: string,
  stack: string,
  target: ComposeTarget,
  site: HostSite,
  {
    config,
    ...release
  }: { config: ReleasedConfig & CheckedConfig } & Pick<RememberStep, 'files' | 'as' | 'of' | 'points'>,
): RememberStep {
  const { file, sha256, profiles } = config;
  return {
    do: 'remember',
    name,
    folder: stackMemoryFolder(site, stack),
    project: target.whole,
    config: { file, sha256, profiles },
    keep: KEEP_RELEASES,
    ...release,
  };
}
