import { messageOf } from '../../protocol/refusal.ts';
import { type DockerEngine, inspectAll } from '../outbound/docker.ts';
import { type ContainerDetails, type ContainerListing, composeLabel } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import type { MountSource, PrepareMountsStep } from '../plan/plan.ts';
import { type FilePlace, isStrictlyBelow, placeOf, placesWithin, readHostMounts } from '../system/host-mounts.ts';
import { type FoundPath, lookUp, openFolder } from '../system/safe-paths.ts';
import { readCheckedConfig } from './checked-config.ts';
import { retryWhenEngineAnswers } from './engine-retry.ts';
import { failedResult, type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';

/*
 * The engine follows a mount's source when the container is created, and again each time it starts. So a check of what is
 * there now is not enough: no other container may ever be able to exchange a component of the path. A container can exchange
 * what is strictly below a folder that it may write. It can't exchange that folder itself, which is a mount point in the
 * container and whose parent it does not see; so two containers may mount the same folder.
 */

/** A folder or file that a container mounts. */
interface ContainerMount {
  container: string;
  /** It belongs to the same compose folder: the rollout replaces it. */
  own: boolean;
  /** It runs, or can run again before the rollout replaces it. */
  mayRun: boolean;
  source: string;
  writable: boolean;
}

interface FoundSource {
  mount: MountSource;
  at: FoundPath;
}

/** A path with its place in a file system, and all that can be written through it. */
interface PlacedPath extends FoundPath {
  place: FilePlace | undefined;
  places: FilePlace[];
}

const FOLDER_MODE = 0o755;

/** Checks the sources of a config's mounts, and creates missing folders. Changes nothing if a check fails. */
export function runPrepareMounts(step: PrepareMountsStep, context: StepContext): StepExecution {
  return retryWhenEngineAnswers(context, async function* () {
    try {
      return yield* prepareMounts(step, context);
    } catch (error) {
      if (!(error instanceof Failure) || error.code === 'docker-unreachable') throw error;
      return failedResult(error);
    }
  });
}

async function* prepareMounts(step: PrepareMountsStep, { engine }: StepContext): StepExecution {
  await readCheckedConfig(step.config);
  const sources: FoundSource[] = [];
  for (const mount of step.mounts) sources.push({ mount, at: await findSource(mount) });
  if (!step.nested && sources.length > 0) await requireApart(sources, await listMounts(engine, step.project.dir));
  for (const { mount, at } of sources) {
    if (at.kind !== undefined) continue;
    await makeFolder(mount, at);
    yield { text: `created ${mount.source}\n` };
  }
  return SUCCEEDED;
}

/** Looks at a source, and checks its type. Throws Failure: `mount-link`, `mount-missing`, `mount-unusable`. */
async function findSource(mount: MountSource): Promise<FoundPath> {
  // The grant `binds` allows any path: it is its own root.
  const at = await lookUp(mount.source, mount.root ?? mount.source).catch((error: unknown) => {
    if (!(error instanceof Failure)) throw error;
    throw mountFailure('mount-link', mount, `is not usable: ${error.message}`, error.remedy);
  });
  const { kind } = at;
  if (kind === 'link')
    throw mountFailure('mount-link', mount, 'is a link', 'Replace the link with the file or folder itself.');
  if (kind === 'device')
    throw mountFailure('mount-unusable', mount, 'is a device', 'Give the device to the service by "devices".');
  if (mount.kind !== 'bind' && kind !== undefined && kind !== 'file')
    throw mountFailure('mount-unusable', mount, 'is not a regular file', 'Name a file.');
  if (kind === undefined && (mount.kind !== 'bind' || !mount.create))
    throw mountFailure('mount-missing', mount, 'does not exist', 'Create it on the host, or ship it with source_dir.');
  return at;
}

/**
 * Throws Failure `mount-nested` if a container may write at a folder that a source's path goes through, or if a source that is
 * mounted writable is on the way to a source of another container.
 */
async function requireApart(sources: FoundSource[], mounts: ContainerMount[]): Promise<void> {
  const hostMounts = await readHostMounts();
  const locate = (at: FoundPath): PlacedPath => ({
    ...at,
    place: placeOf(at.path, hostMounts),
    places: placesWithin(at.path, hostMounts),
  });
  const placed = sources.map(({ mount, at }) => ({ mount, source: locate(at) }));
  for (const one of mounts) {
    const at = locate(await lookUp(one.source, one.source));
    const name = `the container ${one.container}`;
    for (const { mount, source } of placed) {
      if (one.writable && one.mayRun && goesThrough(source, at))
        throw nestedFailure(mount, `is below ${one.source}, which ${name} may write`);
      if (mount.writable && !one.own && goesThrough(at, source))
        throw nestedFailure(mount, `would be writable, and ${one.source}, which ${name} mounts, is below it`);
    }
  }
}

/**
 * Compares names, identities and places in file systems: a folder can have several names, by bind mounts of the host, and a
 * bind mount in the folder shows another one.
 */
function goesThrough({ path, through, place }: PlacedPath, folder: PlacedPath): boolean {
  // A container that may write at the root of the host gains nothing by a link.
  if (folder.path === '/') return false;
  const { identity } = folder;
  if (path !== folder.path && isUnder(path, folder.path)) return true;
  if (identity !== undefined && through.some(({ dev, ino }) => dev === identity.dev && ino === identity.ino))
    return true;
  return place !== undefined && folder.places.some(one => isStrictlyBelow(place, one));
}

/** Lists the mounts of every container of the engine, also of those that are stopped. */
async function listMounts(engine: DockerEngine, dir: string): Promise<ContainerMount[]> {
  const listed = ((await engine.get('/containers/json?all=1')) ?? []) as ContainerListing[];
  const containers = await inspectAll(engine, listed);
  const devices = await listVolumeFolders(engine);
  return containers.flatMap(({ listed: container, inspected }) => {
    const own = composeLabel(container, 'project.working_dir') === dir;
    const mayRun = !own || inspected.State.Running || restartsByItself(inspected);
    return (inspected.Mounts ?? []).flatMap(({ Name, Source, RW }) => {
      const sources = [Source, devices.get(Name ?? '')].filter((one): one is string => one?.startsWith('/') === true);
      return sources.map(source => ({
        container: inspected.Name.slice(1),
        ...{ own, mayRun, source, writable: RW },
      }));
    });
  });
}

/** The engine starts such a container when it starts itself, also one that was stopped. */
function restartsByItself({ HostConfig }: ContainerDetails): boolean {
  return ['always', 'on-failure'].includes(HostConfig?.RestartPolicy?.Name ?? '');
}

/** Returns the folders of the host that volumes of the local driver are: by the volume's name. */
async function listVolumeFolders(engine: DockerEngine): Promise<Map<string, string>> {
  const { Volumes: volumes } = ((await engine.get('/volumes')) ?? {}) as {
    Volumes?: { Name: string; Options?: Record<string, string> | null }[] | null;
  };
  return new Map((volumes ?? []).flatMap(({ Name, Options }) => (Options?.device ? [[Name, Options.device]] : [])));
}

/** Creates the folder of a source, one component after another. */
async function makeFolder(mount: MountSource, { path }: FoundPath): Promise<void> {
  try {
    await using folder = await openFolder(path, mount.root ?? '/', { make: FOLDER_MODE });
    if (!folder) throw new Error('it was removed meanwhile');
  } catch (error) {
    throw mountFailure(
      error instanceof Failure ? 'mount-link' : 'mount-missing',
      mount,
      `could not be created: ${messageOf(error)}`,
      `Create it on the host: mkdir -p ${mount.source}`,
    );
  }
}

function nestedFailure(mount: MountSource, state: string): Failure {
  return mountFailure(
    'mount-nested',
    mount,
    state,
    'Mount the same folder, or separate the two. If every container that writes there is trusted, grant nested-binds to the stack (compose.grants in agent.yaml): it could replace the folder with a link to any other.',
  );
}

function mountFailure(code: string, { kind, services, source }: MountSource, state: string, remedy: string): Failure {
  const users = services.length === 0 ? '' : ` of ${services.join(', ')}`;
  return new Failure(code, `The ${kind} ${source}${users} ${state}. Nothing was started.`, remedy);
}
