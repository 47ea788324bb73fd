import {
  type BackupDescription,
  type BackupKind,
  type BackupManifest,
  parseManifest,
} from '../../plan/backup-manifest.ts';
import type { ContainerDetails } from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import { findRoot, isUnder } from '../../plan/paths.ts';
import type {
  CheckTargetStep,
  ClearStep,
  HostReader,
  Milliseconds,
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
import { type BackupSource, storageRoot, trimSlashes } from './opened.ts';

const MINUTE = 60_000;
const DEFAULT_TIMEOUT = 6 * 60 * MINUTE;
const DEFAULT_STALL = 15 * MINUTE;
const DEFAULT_MIN_KEEP = 3;
const VERSION_KEPT_FOR = 60 * MINUTE;

/** The part of an earlier backup's manifest that a plan needs. `name`: of its file or folder; `of`: of the backup. */
export type EarlierBackup = Omit<BackupDescription, 'source'> &
  Pick<BackupManifest, 'bytes' | 'files' | 'verified_at' | 'protected' | 'broken'> & { of: string };

/** A backup and the paths at which it is stored. */
export interface StoredBackup {
  backup: EarlierBackup;
  /** The folder of its group, and the trusted folder that holds it. */
  folder: string;
  root: string;
  /** The backup itself: a file or a folder. */
  path: string;
}

/** Returns the paths that a backup reads and writes. */
export function listBackupClaims(
  { source, destination }: { source?: string | undefined; destination?: string | undefined },
  site: HostSite,
) {
  const { sources } = site.backups;
  const destinations = site.backups.destinations.map(({ path }) => path);
  return [
    ...(source === undefined ? [] : [{ path: source, root: findRoot(source, sources) }]),
    ...(destination?.startsWith('/') ? [{ path: destination, root: findRoot(destination, destinations) }] : []),
  ];
}

/** Locks the backup's folder: no run prunes it while another writes to it or restores from it. */
export function backupGroupLocks(destination: string | undefined, name: string): string[] {
  return destination === undefined ? [] : [`backups ${groupFolder(destination, name)}`];
}

function groupFolder(destination: string, name: string): string {
  return `${trimSlashes(destination)}/${name}`;
}

interface DestinationFields {
  destination?: string | undefined;
  destination_container?: string | undefined;
  destination_path?: string | undefined;
}

/** The fields that all backup intents share. */
export interface BackupFields extends DestinationFields {
  id?: string | undefined;
  notes?: string | undefined;
  keep?: Keep | undefined;
  retention_days?: number | undefined;
  min_keep?: number | undefined;
}

/** All backups of one name at one destination, with the one that is planned. */
export interface BackupGroup {
  destination: BackupDestination;
  /** `<destination>/<name>`. */
  folder: string;
  /** The trusted folder that holds it. */
  root: string;
  name: string;
  /** The oldest first. */
  earlier: EarlierBackup[];
  last: EarlierBackup | undefined;
  /** The name of the planned backup, and its name until it has been read back. */
  newName: string;
  partial: string;
}

/** Throws Failure: `destination-not-allowed`, `container-missing`, `container-path-unknown`. */
export async function findBackupGroup(
  intent: BackupFields,
  { site, run, at, document }: PlanContext,
  host: HostReader,
  nameFor: (stamp: string) => string = stamp => stamp,
): Promise<BackupGroup> {
  const { destination, path } = await findDestination(intent, site, host);
  const name = intent.id ?? document.name;
  const folder = groupFolder(path, name);
  const earlier = await findEarlier(folder, host);
  const newName = nameFor(timestampOf(at));
  return {
    destination,
    ...{ folder, root: destination.path },
    name,
    earlier,
    last: earlier.findLast(one => !one.broken),
    newName,
    partial: `.${newName}.partial.${run}`,
  };
}

/** `expected`: bytes. `subfolder`: made inside the group's folder. */
export function planTargetCheck(
  { destination, folder }: BackupGroup,
  expected: number,
  subfolder = '',
): CheckTargetStep {
  const needs = Math.ceil(expected) + destination.minFree;
  return { do: 'check-target', name: 'check the destination', ...destination, needs, folder: `${folder}${subfolder}` };
}

export function planReadBack(
  { folder, root, partial, newName, name }: Pick<BackupGroup, 'folder' | 'root' | 'partial' | 'newName' | 'name'>,
  { run, at }: PlanContext,
  intent: BackupFields,
  description: Omit<BackupDescription, 'name' | 'run' | 'at' | 'notes'>,
): SealStep {
  const manifest = { ...description, name, run, at, ...(intent.notes === undefined ? {} : { notes: intent.notes }) };
  return { do: 'seal', name: 'read back', folder, root, partial, as: newName, manifest };
}

/** Removes an unfinished backup. A published one has another name, so nothing is removed. */
export function planPartialCleanup({ folder, root, partial }: BackupGroup, ifBegan: string): ClearStep {
  return { do: 'clear', name: 'clear away what is unfinished', path: `${folder}/${partial}`, root, ifBegan };
}

export function planPrune({ folder, root }: BackupGroup, intent: BackupFields): PruneStep {
  const { min_keep: minKeep = DEFAULT_MIN_KEEP } = intent;
  return { do: 'prune', name: 'prune', folder, root, rules: retentionRulesOf(intent), minKeep };
}

/** Returns the new backup, and the backups that retention would remove, with the reasons. */
export function listBackupChanges(
  { folder, newName, earlier }: BackupGroup,
  intent: BackupFields,
  at: string,
): Change[] {
  const planned = { name: newName, at, verified: true };
  const all = [...earlier.map(one => ({ ...one, verified: one.verified_at !== undefined && !one.broken })), planned];
  const decisions = applyRetention(all, retentionRulesOf(intent), intent.min_keep ?? DEFAULT_MIN_KEEP, new Date(at));
  return [
    { subject: folder, change: 'write', details: [newName] },
    ...decisions
      .filter(({ keep }) => !keep)
      .map(({ name, reason }): Change => ({ subject: `${folder}/${name}`, change: 'remove', details: [reason] })),
  ];
}

export function summarizeGroup({ earlier, last }: BackupGroup): string {
  if (!last) return 'The first backup.';
  return `${earlier.length} earlier ${earlier.length === 1 ? 'backup' : 'backups'}; the newest holds ${last.files} files.`;
}

export interface StepTimeouts {
  timeout: Milliseconds;
  stallTimeout: Milliseconds;
}

/** Returns the limits of the steps that take long. */
export function parseTimeouts({
  timeout,
  stall_timeout,
}: {
  timeout?: string | undefined;
  stall_timeout?: string | undefined;
}): StepTimeouts {
  return {
    timeout: timeout === undefined ? DEFAULT_TIMEOUT : parseDuration(timeout),
    stallTimeout: stall_timeout === undefined ? DEFAULT_STALL : parseDuration(stall_timeout),
  };
}

/** Returns the first line of the program's version text; empty in a dry run. Throws Failure `program-missing`. */
export async function readVersion(argv: [string, ...string[]], host: HostReader): Promise<string> {
  const answer = await host.ask([...argv, '--version'], { keepFor: VERSION_KEPT_FOR });
  return answer?.stdout.split('\n')[0]?.trim() ?? '';
}

/** Returns the host's destination that holds the folder which the intent names. */
async function findDestination(
  intent: DestinationFields,
  site: HostSite,
  host: HostReader,
): Promise<{ destination: BackupDestination; path: string }> {
  const path =
    intent.destination ??
    (
      await findSource(
        { source_container: intent.destination_container, source_path: intent.destination_path },
        site,
        host,
      )
    ).path;
  const destination = site.backups.destinations.find(one => isUnder(path, one.path));
  if (destination) return { destination, path: trimSlashes(path) };
  throw new Failure(
    'destination-not-allowed',
    `${path} is not a destination for backups on this host.`,
    'Name a folder below one of backups.destinations in agent.yaml, or one of backups.remotes. Mount a share first.',
  );
}

/** Returns the backups that have a manifest, the oldest first. */
export async function findEarlier(folder: string, host: HostReader): Promise<EarlierBackup[]> {
  const names = (await host.list(folder)) ?? [];
  const found: EarlierBackup[] = [];
  for (const file of names.filter(one => one.endsWith('.json') && !one.startsWith('.')).sort()) {
    const name = file.slice(0, -5);
    const manifest = parseManifest((await host.read(`${folder}/${file}`)) ?? '');
    // A manifest without its data is not a backup. The data of restic is in its repository.
    if (manifest && (names.includes(name) || manifest.snapshot !== undefined))
      found.push({ ...manifest, of: manifest.name, name });
  }
  return found.sort((a, b) => (a.at < b.at ? -1 : 1));
}

const TIME = /^\d{4}-\d\d-\d\dT/;

/** Returns the backup that a restore or drill names. Throws Failure `backup-unknown`. */
export async function findStoredBackup(
  { from, at }: { from: string; at?: string | undefined },
  name: string,
  kind: BackupKind,
  site: HostSite,
  host: HostReader,
): Promise<StoredBackup> {
  const folder = groupFolder(from, name);
  const backup = await findBackup({ name, at }, folder, [kind], host);
  return { backup, folder, root: storageRoot(folder, site), path: `${folder}/${backup.name}` };
}

/** Returns the backup that `at` names: the newest, by name, by run, or the newest until a time. Throws Failure `backup-unknown`. */
export async function findBackup(
  { name, at = 'latest' }: { name: string; at?: string | undefined },
  folder: string,
  kinds: readonly [BackupKind, ...BackupKind[]],
  host: HostReader,
): Promise<EarlierBackup> {
  if ((await host.list(folder)) === undefined)
    return { name: `(${at})`, of: name, kind: kinds[0], run: '', at, bytes: 0, files: 0 };
  const all = (await findEarlier(folder, host)).filter(({ kind }) => kinds.includes(kind));
  return selectBackup(all, at, `${folder} (${kinds.join(' or ')})`);
}

/** Selects from known backups as {@link findBackup} does. `all`: the oldest first. */
export function selectBackup(all: EarlierBackup[], at = 'latest', place = 'The folder'): EarlierBackup {
  const isMeant = (one: EarlierBackup) => {
    if (TIME.test(at)) return Date.parse(one.at) <= Date.parse(at) && !one.broken;
    return (at === 'latest' && !one.broken) || one.name === at || one.run === at || one.name.includes(`-${at}.`);
  };
  const found = all.findLast(isMeant);
  if (found) return found;
  throw new Failure(
    'backup-unknown',
    `No backup in ${place} matches${at === 'latest' ? ' the intent' : ` "at": ${at}`}.`,
    all.length === 0
      ? 'Correct "from" and "of".'
      : `Name one of these as "at": ${all.map(({ name }) => name).join(', ')}.`,
  );
}

/** `retention_days: N` counts days that have backups: after an outage no backup is too old. */
function retentionRulesOf({ keep, retention_days: days }: BackupFields) {
  return { ...(days === undefined ? {} : { last: 1, daily: days }), ...keep };
}

/** `20261121T061200.123Z`: sorts by time. */
export function timestampOf(at: string): string {
  return at.replaceAll(/[-:]/g, '');
}

interface SourceLocation {
  source?: string | undefined;
  source_container?: string | undefined;
  source_path?: string | undefined;
}

/** Returns undefined in a dry run. Throws Failure `container-missing`. */
export async function findContainer(name: string, host: HostReader): Promise<ContainerDetails | undefined> {
  const found = (await host.engine(`/containers/${encodeURIComponent(name)}/json`)) as ReadResult<ContainerDetails>;
  if (found !== null) return found;
  throw new Failure(
    'container-missing',
    `There is no container ${name} on this host.`,
    'Correct the name; "docker ps --all" lists them.',
  );
}

/** Throws Failure: `container-missing`, `container-stopped`. */
export async function findRunning(name: string, host: HostReader): Promise<ContainerDetails | undefined> {
  const found = await findContainer(name, host);
  if (!found || (found.State.Running && !found.State.Paused)) return found;
  throw new Failure(
    'container-stopped',
    `The container ${name} ${found.State.Paused ? 'is paused' : 'is not running'}; the agent must run a program in it.`,
    `Start it: docker ${found.State.Paused ? 'unpause' : 'start'} ${name}`,
  );
}

/**
 * Resolves a path inside a container to the host's path of the volume or bind that is mounted there. The container may have
 * made links in it: the steps open it without following them. Throws Failure:
 * `container-missing`, `container-path-unknown`.
 */
export async function findSource(intent: SourceLocation, site: HostSite, host: HostReader): Promise<BackupSource> {
  const { sources } = site.backups;
  if (intent.source !== undefined) {
    const path = intent.source.replace(/(?<=.)\/+$/, '');
    return { path, root: findRoot(path, sources), label: path };
  }
  const { source_container: container = '', source_path: path = '' } = intent;
  const label = `${container}:${path}`;
  const found = await findContainer(container, host);
  if (!found) return { path: `(${label})`, root: findRoot('', sources), label, container };
  const mounts = (found.Mounts ?? []).filter(({ Destination }) => isUnder(path, Destination));
  const nearest = mounts.toSorted((a, b) => b.Destination.length - a.Destination.length)[0];
  if (!nearest)
    throw new Failure(
      'container-path-unknown',
      `${path} in ${container} is neither on a volume nor on a folder of the host.`,
      `Name a path below one of its mounts: ${(found.Mounts ?? []).map(({ Destination }) => Destination).join(', ') || 'it has none'}.`,
    );
  const at = trimSlashes(`${nearest.Source}${path.slice(nearest.Destination.length)}`);
  // A volume is the container's own, wherever the engine keeps it. A folder of the host must be one that backups may read.
  const root = nearest.Type === 'volume' ? nearest.Source : findRoot(at, sources);
  return { path: at, root, label, container };
}
