import type { Answer, AwaitHealthy, Look, Release, ReleasedFile, Remember, Start } from '../../plan/plan.ts';
import type { Site } from '../executor.ts';
import { docker } from './steps.ts';
import type { Target } from './target.ts';

/** How many releases of a stack can be gone back to. */
export const KEEP_RELEASES = 10;

/** The name of what ran before a stack's first rollout. */
export const FIRST_RELEASE = 'before-first-rollout';

/** A container of the stack, as a plan needs it. */
export interface Running {
  id: string;
  service: string;
  project: string;
  reference: string;
  image: string;
  running: boolean;
}

/** What is on the host before a change. */
export interface Now {
  /** Undefined: not known (a dry run). */
  containers: Running[] | undefined;
  /** A killed compose left containers half made. */
  leftovers: boolean;
  /** The newest last. */
  releases: Release[];
  /** Ids of images that are kept from being pruned, by the tag that keeps them. */
  kept: Map<string, string>;
}

/** What brings a stack up again while its health is waited for. */
export function revive(up: Start, now: Now): { revive: NonNullable<AwaitHealthy['revive']> } {
  const ran = (now.containers ?? []).filter(({ running }) => running).map(({ id }) => id);
  return { revive: { up, ran } };
}

/** Where the agent keeps what it must remember of a stack. */
export function memoryOf(site: Site, stack: string): string {
  return `${site.memory}/${stack}`;
}

/** Where the content of a released file lies. */
export function contentOf(site: Site, stack: string, file: ReleasedFile): string {
  return `${memoryOf(site, stack)}/files/${file.sha256}`;
}

export async function lookNow(stack: string, target: Target, site: Site, look: Look): Promise<Now> {
  const label = [`com.docker.compose.project.working_dir=${target.dir}`, 'com.docker.compose.oneoff=False'];
  const [listed, text, images] = await Promise.all([
    look.engine(`/containers/json?all=1&filters=${encodeURIComponent(JSON.stringify({ label }))}`),
    look.read(`${memoryOf(site, stack)}/releases.json`),
    look.engine(`/images/json?filters=${encodeURIComponent(JSON.stringify({ reference: [`${keptName(stack)}:*`] }))}`),
  ]);
  const tags = ((images ?? []) as { Id: string; RepoTags: string[] | null }[]).flatMap(({ Id, RepoTags }) =>
    (RepoTags ?? []).filter(tag => tag.startsWith(`${keptName(stack)}:`)).map((tag): [string, string] => [tag, Id]),
  );
  return {
    containers: await containersOf(listed as Answer<Listed[]>, look),
    leftovers: ((listed ?? []) as Listed[]).some(
      ({ State, Names }) => State === 'created' && TEMPORARY.test(Names[0] ?? ''),
    ),
    releases: readReleases(text),
    kept: new Map(tags),
  };
}

/** How compose calls the container that is to take another's place until it does. */
const TEMPORARY = /^\/[0-9a-f]{12}_/;

interface Listed {
  Id: string;
  State: string;
  Names: string[];
}

async function containersOf(listed: Answer<Listed[]>, look: Look): Promise<Running[] | undefined> {
  if (listed === undefined) return undefined;
  const all = await Promise.all((listed ?? []).map(({ Id }) => look.engine(`/containers/${Id}/json`)));
  return (all as Answer<Inspected>[]).flatMap(one =>
    one && one.State.Status !== 'created'
      ? [
          {
            id: one.Id,
            service: one.Config.Labels['com.docker.compose.service'] ?? '',
            project: one.Config.Labels['com.docker.compose.project'] ?? '',
            reference: one.Config.Image,
            image: one.Image,
            running: one.State.Running,
          },
        ]
      : [],
  );
}

interface Inspected {
  Id: string;
  Image: string;
  Config: { Image: string; Labels: Record<string, string> };
  State: { Status: string; Running: boolean };
}

/** A record that can't be read is as good as none: the next release begins a new one. */
function readReleases(text: Answer<string>): Release[] {
  if (!text) return [];
  try {
    return (JSON.parse(text) as { releases?: Release[] }).releases ?? [];
  } catch {
    return [];
  }
}

/** Where to go back to by itself, or by `previous`: before a release that was brought back comes what was before its original. */
export function previousOf(releases: Release[]): Release | undefined {
  const newest = releases.at(-1);
  if (!newest) return undefined;
  const { of } = newest;
  const original = of === undefined ? -1 : releases.findIndex(({ runs }) => runs.includes(of));
  return original < 0 ? releases.at(-2) : releases[original - 1];
}

/** The name under which images of a stack are kept: lower case, as docker wants it. */
function keptName(stack: string): string {
  return `chatops-kept/${stack
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')}`;
}

/** Tags the images that run now, so that nobody's "docker image prune" takes away what a rollback needs. */
export function keepImages(stack: string, now: Now, site: Site): Start[] {
  const held = new Set(now.kept.values());
  const wanted = new Set((now.containers ?? []).map(({ image }) => image).filter(image => !held.has(image)));
  return [...wanted].map(image => {
    const short = image.replace('sha256:', '').slice(0, 12);
    return docker(`keep image ${short}`, [site.docker, 'image', 'tag', image, `${keptName(stack)}:${short}`]);
  });
}

/** Lets go of the kept images that no release names any more. */
export function forgetImages(stack: string, now: Now, site: Site): Start[] {
  // One release more is about to be made: the oldest goes.
  const named = new Set(now.releases.slice(-(KEEP_RELEASES - 1)).flatMap(({ images }) => images.map(one => one.image)));
  for (const { image } of now.containers ?? []) named.add(image);
  const tags = [...now.kept].filter(([, image]) => !named.has(image)).map(([tag]) => tag);
  if (tags.length === 0) return [];
  // 1: somebody removed one already.
  return [docker(`forget images of ${stack}`, [site.docker, 'image', 'rm', ...tags], { okCodes: [0, 1] })];
}

/** Adds to the stack's releases what runs after this. */
export function remember(
  name: string,
  stack: string,
  target: Target,
  site: Site,
  of: { files: ReleasedFile[] | null; compose?: ReleasedFile[] | undefined } & Pick<
    Partial<Remember>,
    'as' | 'of' | 'points'
  >,
): Remember {
  const isShipped = of.files?.some(({ path }) => `${target.dir}/${path}` === target.file);
  const dir = target.file?.slice(0, target.file.lastIndexOf('/'));
  // What compose reads on its own beside its file.
  const overrides = ['compose.override.yaml', 'compose.override.yml', 'docker-compose.override.yml'];
  const files = target.file === undefined || isShipped ? [] : [target.file, ...overrides.map(one => `${dir}/${one}`)];
  const { compose = files, ...rest } = of;
  return {
    do: 'remember',
    name,
    folder: memoryOf(site, stack),
    project: target.whole,
    compose,
    keep: KEEP_RELEASES,
    ...rest,
  };
}
