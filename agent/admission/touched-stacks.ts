import type { Intent } from '../../intents/intent.ts';
import { trimSlashes } from '../executors/backup/opened.ts';
import type { HostSite } from '../executors/executor.ts';
import { recordsFolder } from '../executors/volumes/remote.ts';
import { parseManifest } from '../plan/backup-manifest.ts';
import type { ContainerDetails } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import type { HostReader } from '../plan/plan.ts';
import { resolveLinks } from '../system/safe-paths.ts';
import type { TouchedStack } from './rules.ts';
import { listSubjects, type Subject } from './subjects.ts';

/** The parts of the host that show the stack of a container, a volume or a backup. */
export type StackEvidence = Pick<HostReader, 'list' | 'read' | 'engine'>;

/** The labels with which compose marks what it creates. */
const WORKING_DIR = 'com.docker.compose.project.working_dir';
const PROJECT = 'com.docker.compose.project';
/** Suffix of the second project of blue-green. */
const GREEN = /-green$/;

type StackSite = Pick<HostSite, 'stacksRoot' | 'switchFoldersOf' | 'backups'>;

interface ListedContainer {
  Labels?: Record<string, string> | null;
  Mounts?: ContainerDetails['Mounts'];
}

interface ListedVolume {
  Name: string;
  Mountpoint?: string;
  Labels?: Record<string, string> | null;
  Options?: Record<string, string> | null;
}

/** A folder outside of stacks.root to which a stack writes. */
interface DataFolder {
  path: string;
  stack: string;
}

/**
 * Returns the stacks that each intent touches, by the names, paths, containers, volumes and backups in it:
 * - a path below stacks.root belongs to the stack of its first folder, as written and after links are resolved;
 * - another path belongs to the stacks whose containers may write there, and whose volume is there;
 * - a container belongs to the stack from whose folder compose started it, and its paths as on the host;
 * - a backup belongs to the stacks of its source.
 * A subject of no stack counts as an empty name, and an unknown subject as any stack.
 */
export async function findTouchedStacks(
  intents: readonly Intent[],
  site: StackSite,
  host: StackEvidence,
): Promise<TouchedStack[][]> {
  const search = new StackSearch(site, host);
  const all: TouchedStack[][] = [];
  for (const intent of intents) {
    const found: TouchedStack[] = [];
    for (const subject of listSubjects(intent, site.stacksRoot)) found.push(...(await search.touch(subject)));
    all.push(found.length === 0 ? [{ name: '' }] : mergeTouched(found));
  }
  return all;
}

/** Keeps one entry for each stack: the intent's own name first, and one that needs a rule before one that does not. */
function mergeTouched(found: TouchedStack[]): TouchedStack[] {
  const merged = new Map<string, TouchedStack>();
  for (const one of found.toSorted((a, b) => rank(a) - rank(b))) {
    const key = JSON.stringify([one.name, one.unresolved !== undefined]);
    if (!merged.has(key)) merged.set(key, one);
  }
  return [...merged.values()];
}

function rank({ by, granted }: TouchedStack): number {
  return granted ? 2 : by === undefined ? 0 : 1;
}

/** Looks for the stacks of intents. Asks the engine each question once. */
class StackSearch {
  readonly #site: StackSite;
  readonly #host: StackEvidence;
  readonly #asked = new Map<string, Promise<unknown>>();
  #data: Promise<DataFolder[]> | undefined;

  constructor(site: StackSite, host: StackEvidence) {
    this.#site = site;
    this.#host = host;
  }

  /** Returns the stacks that the subject belongs to; one that is not known if the host does not say. */
  async touch(subject: Subject, by = describe(subject)): Promise<TouchedStack[]> {
    try {
      return await this.#stacksOf(subject, by);
    } catch (error) {
      if (!(error instanceof Failure) && !isSystemError(error)) throw error;
      return [{ name: undefined, by, unresolved: error.message.replace(/\.$/, '') }];
    }
  }

  async #stacksOf(subject: Subject, by: string): Promise<TouchedStack[]> {
    const named = (names: readonly (string | undefined)[]) => names.map(name => ({ name, by }));
    switch (subject.kind) {
      case 'stack':
        // The folder may be a link to another stack's.
        return [
          { name: subject.name },
          ...named(await this.#stacksAt(`${this.#site.stacksRoot}/${subject.name}`)).filter(
            ({ name }) => name !== subject.name,
          ),
        ];
      case 'guest':
        return named(['']);
      case 'path':
        return named(await this.#stacksOfPath(subject.path));
      case 'place':
        return named(await this.#stacksAt(subject.path));
      case 'switch':
        return this.#stacksOfSwitch(subject, by);
      case 'container':
        return named(await this.#stacksOfContainer(subject));
      case 'backup':
        return this.#stacksOfBackup(subject, by);
    }
  }

  /** Returns the stacks whose folder holds the path, or that the path holds; empty for a path outside of stacks.root. */
  async #stacksAt(path: string): Promise<(string | undefined)[]> {
    const root = this.#site.stacksRoot;
    const found = new Set<string | undefined>();
    for (const [one, base] of [[path, root] as const, [await resolveLinks(path), await resolveLinks(root)] as const]) {
      if (isUnder(base, one)) found.add(undefined);
      else if (isUnder(one, base)) found.add(firstFolder(one, base));
    }
    return [...found];
  }

  async #stacksOfPath(path: string): Promise<(string | undefined)[]> {
    const inside = await this.#stacksAt(path);
    return inside.length > 0 ? inside : this.#writersOf(await resolveLinks(path));
  }

  async #stacksOfSwitch({ path, stack }: { path: string; stack: string }, by: string): Promise<TouchedStack[]> {
    const real = await resolveLinks(path);
    const folders = await Promise.all(this.#site.switchFoldersOf(stack).map(resolveLinks));
    const granted = folders.some(folder => isUnder(real, folder));
    const names = await this.#stacksOfPath(path);
    return names.map(name => ({ name, by, ...(granted && name !== undefined ? { granted: true as const } : {}) }));
  }

  async #stacksOfContainer({
    name,
    path,
    holds,
  }: Extract<Subject, { kind: 'container' }>): Promise<(string | undefined)[]> {
    const found = await this.#ask<ContainerDetails>(`/containers/${encodeURIComponent(name)}/json`);
    if (!found) throw new Failure('container-missing', `there is no container ${name} on this host`, '');
    const own = await this.#stackOfLabels(found.Config?.Labels);
    const mounts = (found.Mounts ?? []).filter(({ Destination }) => path !== undefined && isUnder(path, Destination));
    const nearest = mounts.toSorted((a, b) => b.Destination.length - a.Destination.length)[0];
    if (path === undefined || !nearest?.Source) return [own];
    const onHost = `${nearest.Source}${path.slice(nearest.Destination.length)}`;
    return [own, ...(await (holds === 'backups' ? this.#stacksAt(onHost) : this.#stacksOfPath(onHost)))];
  }

  /** Reads the manifests of the backups of that name: any of them may be the one that is restored. */
  async #stacksOfBackup({ of, from }: Extract<Subject, { kind: 'backup' }>, by: string): Promise<TouchedStack[]> {
    const { kind, name } = of;
    const place = trimSlashes(from);
    // The agent keeps the manifests of backups on other hosts itself.
    const folder = place.startsWith('/') ? `${place}/${name}` : recordsFolder({ path: place }, name, this.#site);
    const files = ((await this.#host.list(folder)) ?? []).filter(
      file => file.endsWith('.json') && !file.startsWith('.'),
    );
    const sources = new Set<string>();
    for (const file of files) {
      const manifest = parseManifest((await this.#host.read(`${folder}/${file}`)) ?? '');
      if (manifest && (manifest.kind === kind || (manifest.kind === 'mariadb' && kind === 'mysql')))
        sources.add(manifest.source);
    }
    if (sources.size === 0)
      throw new Failure('backup-unknown', `this host knows no manifest of a backup ${name} in ${from}`, '');
    const touched: TouchedStack[] = [];
    for (const source of sources) touched.push(...(await this.touch(parseSource(kind, source), `${by} of ${source}`)));
    return touched;
  }

  /** Returns the stacks that write to a folder outside of stacks.root: by the innermost mount, and by mounts below it. */
  async #writersOf(path: string): Promise<string[]> {
    this.#data ??= this.#listData();
    const data = await this.#data;
    const around = data.filter(one => isUnder(path, one.path));
    const innermost = around.filter(one => around.every(other => other.path.length <= one.path.length));
    const below = data.filter(one => one.path !== path && isUnder(one.path, path));
    const stacks = [...innermost, ...below].map(({ stack }) => stack);
    return [...new Set(innermost.length === 0 ? [...stacks, ''] : stacks)];
  }

  async #listData(): Promise<DataFolder[]> {
    const containers = (await this.#ask<ListedContainer[]>('/containers/json?all=1')) ?? [];
    const volumes = (await this.#ask<{ Volumes?: ListedVolume[] | null }>('/volumes'))?.Volumes ?? [];
    const mountpoints = new Map(volumes.map(({ Name, Mountpoint = '' }) => [Name, Mountpoint]));
    const folders: DataFolder[] = [];
    const stacksOfProjects = new Map<string, Set<string>>();
    for (const { Labels, Mounts } of containers) {
      const stack = await this.#stackOfLabels(Labels);
      const project = Labels?.[PROJECT];
      if (project !== undefined && stack !== '')
        stacksOfProjects.set(project, (stacksOfProjects.get(project) ?? new Set()).add(stack));
      for (const { Source, Name, RW } of Mounts ?? []) {
        const path = Source || mountpoints.get(Name ?? '');
        if (RW && path) folders.push({ path: await resolveLinks(path), stack });
      }
    }
    const names = ((await this.#host.list(this.#site.stacksRoot)) ?? []).map(name => [projectOf(name), name] as const);
    for (const { Mountpoint, Labels, Options } of volumes) {
      const project = Labels?.[PROJECT];
      if (project === undefined) continue;
      const known = stacksOfProjects.get(project) ?? [];
      const alike = names
        .filter(([one]) => one === project || one === project.replace(GREEN, ''))
        .map(([, name]) => name);
      for (const path of [Mountpoint, Options?.device]) {
        if (!path?.startsWith('/')) continue;
        for (const stack of new Set([...known, ...alike])) folders.push({ path: await resolveLinks(path), stack });
      }
    }
    return folders;
  }

  /** Throws Failure if the engine does not answer. */
  async #ask<T>(path: string): Promise<T | null> {
    const asked = this.#asked.get(path) ?? this.#host.engine(path);
    this.#asked.set(path, asked);
    const answer = (await asked) as T | null | undefined;
    if (answer === undefined) throw new Failure('docker-unreachable', 'the engine was not asked', '');
    return answer;
  }

  /** Returns the stack from whose folder compose started a container; empty for another container. */
  async #stackOfLabels(labels: Record<string, string> | null | undefined): Promise<string> {
    const folder = labels?.[WORKING_DIR];
    if (!folder?.startsWith('/')) return '';
    const [real, root] = [await resolveLinks(folder), await resolveLinks(this.#site.stacksRoot)];
    return isUnder(real, root) && real !== root ? firstFolder(real, root) : '';
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

function firstFolder(path: string, root: string): string {
  const below = path.split('/').filter(Boolean);
  return below[root.split('/').filter(Boolean).length] ?? '';
}

/** Returns the name that compose gives the project of a folder. */
function projectOf(folder: string): string {
  return folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]+/g, '')
    .replace(/^[_-]+/, '');
}

/** Reads the source of a manifest: a path, a path in a container, or a database of a server. */
function parseSource(kind: string, source: string): Subject {
  const isDatabase = kind === 'postgres' || kind === 'mysql' || kind === 'mariadb';
  const server = isDatabase ? source.replace(/\/[^/]*$/, '') : source;
  if (server.startsWith('/')) return { kind: 'path', path: server };
  const [, container = server, path] = /^([^:/]+):(\/.*)$/.exec(server) ?? [];
  return { kind: 'container', name: container, ...(path === undefined ? {} : { path, holds: 'data' }) };
}

function describe(subject: Subject): string {
  switch (subject.kind) {
    case 'stack':
      return `the stack ${subject.name}`;
    case 'path':
    case 'place':
      return `the path ${subject.path}`;
    case 'switch':
      return `the switch file ${subject.path}`;
    case 'container':
      return `the container ${subject.name}`;
    case 'backup':
      return `the backup ${subject.of.name}`;
    case 'guest':
      return `the guest ${subject.id}`;
  }
}

/** Returns a view of the host with these containers alone, each in a stack or (by an empty text) in none. */
export function supposeContainers(
  containers: Record<string, string>,
  { stacksRoot }: Pick<HostSite, 'stacksRoot'>,
  { list, read }: Pick<StackEvidence, 'list' | 'read'>,
): StackEvidence {
  const listed = Object.entries(containers).map(([name, stack]) => ({
    Names: [`/${name}`],
    Labels: stack === '' ? {} : { [WORKING_DIR]: `${stacksRoot}/${stack}` },
    Mounts: [],
  }));
  return {
    list,
    read,
    async engine(path) {
      if (path.startsWith('/containers/json')) return listed;
      if (path === '/volumes') return { Volumes: [] };
      const name = decodeURIComponent(/^\/containers\/([^/]+)\/json$/.exec(path)?.[1] ?? '');
      const found = listed.find(({ Names }) => Names.includes(`/${name}`));
      return found ? { Config: { Labels: found.Labels }, Mounts: [] } : null;
    },
  };
}
