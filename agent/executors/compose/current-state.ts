import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../../plan/containers.ts';
import type {
  AwaitHealthyStep,
  HostReader,
  ReadResult,
  Release,
  ReleasedFile,
  RememberStep,
  StartStep,
} from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';
import { planDockerCall } from './steps.ts';
import type { ComposeTarget } from './target.ts';

/** How many releases of a stack can be gone back to. */
export const KEEP_RELEASES = 10;

/** The name of what ran before a stack's first rollout. */
export const FIRST_RELEASE = 'before-first-rollout';

/** A container of the stack, as a plan needs it. */
export interface StackContainer {
  id: string;
  service: string;
  project: string;
  reference: string;
  image: string;
  running: boolean;
}

/** What is on the host before a change. */
export interface StackState {
  /** Undefined: not known (a dry run). */
  containers: StackContainer[] | undefined;
  /** A killed compose left containers half made. */
  leftovers: boolean;
  /** The newest last. */
  releases: Release[];
  /** Ids of images that are kept from being pruned, by the tag that keeps them. */
  kept: Map<string, string>;
}

/** What brings a stack up again while its health is waited for. */
export function reviveOptions(up: StartStep, state: StackState): { revive: NonNullable<AwaitHealthyStep['revive']> } {
  const ran = (state.containers ?? []).filter(({ running }) => running).map(({ id }) => id);
  return { revive: { up, ran } };
}

/** Says what is true of these services (none: all) before anything is started: nothing, as long as it is not known. */
export function describeUnchanged({ containers }: StackState, services: string[]): string {
  if (!containers) return '';
  const isMeant = (service: string) => services.length === 0 || services.includes(service);
  return containers.some(({ service, running }) => running && isMeant(service))
    ? 'The old version still runs.'
    : 'Nothing was started.';
}

/** Where the agent keeps what it must remember of a stack. */
export function stackMemoryFolder(site: HostSite, stack: string): string {
  return `${site.memory}/${stack}`;
}

/** Where the content of a released file lies. */
export function releasedContentPath(site: HostSite, stack: string, file: ReleasedFile): string {
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

/** How compose calls the container that is to take another's place until it does. */
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

/** A record that can't be read is as good as none: the next release begins a new one. */
function readReleases(text: ReadResult<string>): Release[] {
  if (!text) return [];
  try {
    return (JSON.parse(text) as { releases?: Release[] }).releases ?? [];
  } catch {
    return [];
  }
}

/** Where to go back to by itself, or by `previous`: before a release that was brought back comes what was before its original. */
export function findPreviousRelease(releases: Release[]): Release | undefined {
  const newest = releases.at(-1);
  if (!newest) return undefined;
  const { of: originalRun } = newest;
  const original = originalRun === undefined ? -1 : releases.findIndex(({ runs }) => runs.includes(originalRun));
  return original < 0 ? releases.at(-2) : releases[original - 1];
}

/** The name under which images of a stack are kept: lower case, as docker wants it. */
function keptImageName(stack: string): string {
  return `chatops-kept/${stack
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')}`;
}

/** Tags the images that run now, so that nobody's "docker image prune" takes away what a rollback needs. */
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

/** Lets go of the kept images that no release names any more. */
export function planForgetImages(stack: string, state: StackState, site: HostSite): StartStep[] {
  // One release more is about to be made: the oldest goes.
  const neededImages = new Set(
    state.releases.slice(-(KEEP_RELEASES - 1)).flatMap(({ images }) => images.map(one => one.image)),
  );
  for (const { image } of state.containers ?? []) neededImages.add(image);
  const tags = [...state.kept].filter(([, image]) => !neededImages.has(image)).map(([tag]) => tag);
  if (tags.length === 0) return [];
  // 1: somebody removed one already.
  return [planDockerCall(`forget images of ${stack}`, [site.docker, 'image', 'rm', ...tags], { okCodes: [0, 1] })];
}

/** Adds to the stack's releases what runs after this. */
export function planRemember(
  name: string,
  stack: string,
  target: ComposeTarget,
  site: HostSite,
  release: { files: ReleasedFile[] | null; compose?: ReleasedFile[] | undefined } & Pick<
    Partial<RememberStep>,
    'as' | 'of' | 'points'
  >,
): RememberStep {
  const isShipped = release.files?.some(({ path }) => `${target.dir}/${path}` === target.file);
  const dir = target.file?.slice(0, target.file.lastIndexOf('/'));
  // What compose reads on its own beside its file.
  const overrides = ['compose.override.yaml', 'compose.override.yml', 'docker-compose.override.yml'];
  const files = target.file === undefined || isShipped ? [] : [target.file, ...overrides.map(one => `${dir}/${one}`)];
  const { compose = files, ...rest } = release;
  return {
    do: 'remember',
    name,
    folder: stackMemoryFolder(site, stack),
    project: target.whole,
    compose,
    keep: KEEP_RELEASES,
    ...rest,
  };
}
