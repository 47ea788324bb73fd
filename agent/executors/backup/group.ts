import { parseManifest } from '../../plan/backup-manifest.ts';
import type { ContainerDetails } from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import { findRoot } from '../../plan/paths.ts';
import type {
  BackupDescription,
  CheckTargetStep,
  ClearStep,
  HostReader,
  PruneStep,
  ReadResult,
  SealStep,
} from '../../plan/plan.ts';
import { applyRetention } from '../../plan/retention.ts';
import {
  type BackupDestination,
  type Change,
  type HostSite,
  type Keep,
  type PlanContext,
  parseDuration,
} from '../executor.ts';

const MINUTE = 60_000;
const DEFAULT_TIMEOUT = 6 * 60 * MINUTE;
const DEFAULT_STALL = 15 * MINUTE;
const DEFAULT_MIN_KEEP = 3;
const VERSION_KEPT_FOR = 60 * MINUTE;

/** What an earlier backup's manifest says, as far as a plan needs it. */
export interface EarlierBackup extends Omit<BackupDescription, 'source'> {
  /** The name of its file or folder; `of` is that of the backup. */
  name: string;
  of: string;
  bytes: number;
  files: number;
  verified_at?: string;
  protected?: boolean;
  broken?: object;
}

/** Claims of what a backup reads and writes by name. */
export function listBackupClaims(
  { source, destination }: { source?: string | undefined; destination?: string | undefined },
  site: HostSite,
) {
  const { sources, destinations } = site.backups;
  return [
    ...(source === undefined ? [] : [{ path: source, root: findRoot(source, sources) }]),
    ...(destination?.startsWith('/')
      ? [
          {
            path: destination,
            root: findRoot(
              destination,
              destinations.map(({ path }) => path),
            ),
          },
        ]
      : []),
  ];
}

/** A backup's folder is one thing: nobody prunes it while another writes or restores. */
export function backupGroupLocks(place: string | undefined, name: string): string[] {
  return place === undefined ? [] : [`backups ${place.replace(/\/+$/, '')}/${name}`];
}

interface DestinationFields {
  destination?: string | undefined;
  destination_container?: string | undefined;
  destination_path?: string | undefined;
}

/** What the fields that every backup has come to. */
interface BackupFields extends DestinationFields {
  id?: string | undefined;
  notes?: string | undefined;
  keep?: Keep | undefined;
  retention_days?: number | undefined;
  min_keep?: number | undefined;
}

/** The place of a backup among its earlier ones. */
export interface BackupGroup {
  destination: BackupDestination;
  /** `<destination>/<name>`. */
  folder: string;
  name: string;
  /** The oldest first. */
  earlier: EarlierBackup[];
  last: EarlierBackup | undefined;
  /** The new one's name, and what it is called until it has been read back. */
  as: string;
  partial: string;
}

/** Throws Failure: `destination-not-allowed`, `container-missing`, `container-path-unknown`. */
export async function findBackupGroup(
  intent: BackupFields,
  { site, run, at, document }: PlanContext,
  look: HostReader,
  named: (stamp: string) => string = stamp => stamp,
): Promise<BackupGroup> {
  const { destination, path } = await findDestination(intent, site, look);
  const name = intent.id ?? document.name;
  const folder = `${path}/${name}`;
  const earlier = await findEarlier(folder, look);
  const as = named(timestampOf(at));
  return {
    destination,
    folder,
    name,
    earlier,
    last: earlier.findLast(one => !one.broken),
    as,
    partial: `.${as}.partial.${run}`,
  };
}

/** `expected`: bytes. */
export function planTargetCheck({ destination, folder }: BackupGroup, expected: number, inside = ''): CheckTargetStep {
  const needs = Math.ceil(expected) + destination.minFree;
  return { do: 'check-target', name: 'check the destination', ...destination, needs, folder: `${folder}${inside}` };
}

export function planReadBack(
  { folder, partial, as, name }: BackupGroup,
  { run, at }: PlanContext,
  intent: BackupFields,
  taken: Omit<BackupDescription, 'name' | 'run' | 'at' | 'notes'>,
): SealStep {
  const manifest = { ...taken, name, run, at, ...(intent.notes === undefined ? {} : { notes: intent.notes }) };
  return { do: 'seal', name: 'read back', folder, partial, as, manifest };
}

/** What was not finished: the destination is not left full of it. Once it has its name there is nothing to clear. */
export function planPartialCleanup({ folder, partial }: BackupGroup, ifBegan: string): ClearStep {
  return { do: 'clear', name: 'clear away what is unfinished', path: `${folder}/${partial}`, root: folder, ifBegan };
}

export function planPrune({ folder }: BackupGroup, intent: BackupFields): PruneStep {
  const { min_keep: minKeep = DEFAULT_MIN_KEEP } = intent;
  return { do: 'prune', name: 'prune', folder, rules: retentionRulesOf(intent), minKeep };
}

/** The new one, and those that would be pruned and why. */
export function listBackupChanges({ folder, as, earlier }: BackupGroup, intent: BackupFields, at: string): Change[] {
  const made = { name: as, at, verified: true };
  const all = [...earlier.map(one => ({ ...one, verified: one.verified_at !== undefined && !one.broken })), made];
  const verdicts = applyRetention(all, retentionRulesOf(intent), intent.min_keep ?? DEFAULT_MIN_KEEP, new Date(at));
  return [
    { subject: folder, change: 'write', details: [as] },
    ...verdicts
      .filter(({ keep }) => !keep)
      .map(({ name, reason }): Change => ({ subject: `${folder}/${name}`, change: 'remove', details: [reason] })),
  ];
}

export function summarizeGroup({ earlier, last }: BackupGroup): string {
  if (!last) return 'The first backup.';
  return `${earlier.length} earlier ${earlier.length === 1 ? 'backup' : 'backups'}; the newest holds ${last.files} files.`;
}

/** Limits of the steps that take long. */
export function parseTimeouts({
  timeout,
  stall_timeout,
}: {
  timeout?: string | undefined;
  stall_timeout?: string | undefined;
}) {
  return {
    timeout: timeout === undefined ? DEFAULT_TIMEOUT : parseDuration(timeout),
    stallTimeout: stall_timeout === undefined ? DEFAULT_STALL : parseDuration(stall_timeout),
  };
}

/** The first line of what a program says of its version; empty where it is not known. Throws Failure `program-missing`. */
export async function readVersion(argv: [string, ...string[]], look: HostReader): Promise<string> {
  const answer = await look.ask([...argv, '--version'], { keepFor: VERSION_KEPT_FOR });
  return answer?.stdout.split('\n')[0]?.trim() ?? '';
}

/** The host's destination that holds the intent's one. */
async function findDestination(
  intent: DestinationFields,
  site: HostSite,
  look: HostReader,
): Promise<{ destination: BackupDestination; path: string }> {
  const path =
    intent.destination ??
    (await findSource({ source_container: intent.destination_container, source_path: intent.destination_path }, look))
      .path;
  const destination = site.backups.destinations.find(one => path === one.path || path.startsWith(`${one.path}/`));
  if (destination) return { destination, path: path.replace(/\/+$/, '') };
  throw new Failure(
    'destination-not-allowed',
    `This host does not let backups be written to ${path}.`,
    'Name a folder below one of backups.destinations in agent.yaml, or one of backups.remotes; a share is mounted first.',
  );
}

/** Backups that have a manifest, the oldest first. */
export async function findEarlier(folder: string, look: HostReader): Promise<EarlierBackup[]> {
  const names = (await look.list(folder)) ?? [];
  const found: EarlierBackup[] = [];
  for (const file of names.filter(one => one.endsWith('.json') && !one.startsWith('.')).sort()) {
    const name = file.slice(0, -5);
    const manifest = parseManifest((await look.read(`${folder}/${file}`)) ?? '') as
      | (EarlierBackup & { name: string })
      | undefined;
    // No manifest: nothing to build on. What restic made lies in its repository.
    if (manifest && (names.includes(name) || manifest.snapshot !== undefined))
      found.push({ ...manifest, of: manifest.name, name });
  }
  return found.sort((a, b) => (a.at < b.at ? -1 : 1));
}

const TIME = /^\d{4}-\d\d-\d\dT/;

/** The backup that `at` means: the newest, a name, a run's, or the newest one at a time. Throws Failure `backup-unknown`. */
export async function findBackup(
  { name, at = 'latest' }: { name: string; at?: string | undefined },
  folder: string,
  kinds: readonly string[],
  look: HostReader,
): Promise<EarlierBackup> {
  if ((await look.list(folder)) === undefined)
    return { name: `(${at})`, of: name, kind: kinds[0] ?? '', run: '', at, bytes: 0, files: 0 };
  const all = (await findEarlier(folder, look)).filter(({ kind }) => kinds.includes(kind));
  return selectBackup(all, at, `${folder} (${kinds.join(' or ')})`);
}

/** As {@link findBackup}, of those that are known. `all`: the oldest first. */
export function selectBackup(all: EarlierBackup[], at = 'latest', told = 'The folder'): EarlierBackup {
  const isMeant = (one: EarlierBackup) => {
    if (TIME.test(at)) return Date.parse(one.at) <= Date.parse(at) && !one.broken;
    return (at === 'latest' && !one.broken) || one.name === at || one.run === at || one.name.includes(`-${at}.`);
  };
  const found = all.findLast(isMeant);
  if (found) return found;
  throw new Failure(
    'backup-unknown',
    `There is no such backup in ${told}${at === 'latest' ? '' : `: ${at}`}.`,
    all.length === 0 ? 'Correct "from" and "of".' : `There are: ${all.map(({ name }) => name).join(', ')}.`,
  );
}

/** `retention_days: N` counts days that have backups: an outage ages nothing out. */
function retentionRulesOf({ keep, retention_days: days }: BackupFields) {
  return { ...(days === undefined ? {} : { last: 1, daily: days }), ...keep };
}

/** `20261121T061200.123Z`: sorts by time. */
export function timestampOf(at: string): string {
  return at.replaceAll(/[-:]/g, '');
}

/** What is backed up: a folder of this host, and how people know it. */
export interface BackupSource {
  path: string;
  told: string;
  container?: string;
}

interface SourceLocation {
  source?: string | undefined;
  source_container?: string | undefined;
  source_path?: string | undefined;
}

/** Undefined in a dry run. Throws Failure `container-missing`. */
export async function findContainer(name: string, look: HostReader): Promise<ContainerDetails | undefined> {
  const found = (await look.engine(`/containers/${encodeURIComponent(name)}/json`)) as ReadResult<ContainerDetails>;
  if (found !== null) return found;
  throw new Failure(
    'container-missing',
    `There is no container ${name} on this host.`,
    'Correct the name; "docker ps --all" lists them.',
  );
}

/** Throws Failure: `container-missing`, `container-stopped`. */
export async function findRunning(name: string, look: HostReader): Promise<ContainerDetails | undefined> {
  const found = await findContainer(name, look);
  if (!found || (found.State.Running && !found.State.Paused)) return found;
  throw new Failure(
    'container-stopped',
    `The container ${name} ${found.State.Paused ? 'is paused' : 'does not run'}; what must be done happens inside it.`,
    `Start it: docker ${found.State.Paused ? 'unpause' : 'start'} ${name}`,
  );
}

/** A path inside a container is the folder of the volume or bind that is mounted there. Throws Failure: `container-missing`, `container-path-unknown`. */
export async function findSource(intent: SourceLocation, look: HostReader): Promise<BackupSource> {
  if (intent.source !== undefined) {
    const path = intent.source.replace(/(?<=.)\/+$/, '');
    return { path, told: path };
  }
  const { source_container: container = '', source_path: path = '' } = intent;
  const told = `${container}:${path}`;
  const found = await findContainer(container, look);
  if (!found) return { path: `(${told})`, told, container };
  const mounts = (found.Mounts ?? []).filter(
    ({ Destination }) => path === Destination || path.startsWith(`${Destination}/`),
  );
  const nearest = mounts.toSorted((a, b) => b.Destination.length - a.Destination.length)[0];
  if (!nearest)
    throw new Failure(
      'container-path-unknown',
      `${path} in ${container} is neither on a volume nor on a folder of the host.`,
      `Name a path below one of its mounts: ${(found.Mounts ?? []).map(({ Destination }) => Destination).join(', ') || 'it has none'}.`,
    );
  return { path: `${nearest.Source}${path.slice(nearest.Destination.length)}`, told, container };
}
