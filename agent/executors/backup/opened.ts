import { findRoot } from '../../plan/paths.ts';
import type { CheckTargetStep, FailureReason, OpenedPath, StartStep } from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';

const NEW_FOLDER = 0o700;
/** The folder or file to back up, on this host, and the name that users know it by. */
export interface BackupSource {
  path: string;
  /** The trusted folder that holds it: below it no component may be a link. */
  root: string;
  label: string;
  container?: string;
}

/** The space that copies leave free on the disk of the agent's own folder, and of restored data. */
export const SCRATCH_RESERVE = 512 * 2 ** 20;

/** Returns the trusted folder that holds a stored backup: a destination, or the agent's own records. */
export function storageRoot(path: string, { backups }: HostSite): string {
  return findRoot(path, [backups.records, ...backups.destinations.map(one => one.path)]);
}

/** Opens a folder or file of a destination. A link in it is of whoever serves the share. */
export function openStored(path: string, root: string, changes: Partial<OpenedPath> = {}): OpenedPath {
  return { path: trimSlashes(path), root, as: 'folder', code: 'destination-link', ...changes };
}

/** Opens the folder that a backup reads. */
export function openSource({ path, root }: { path: string; root: string }): OpenedPath {
  return { path, root, as: 'folder' };
}

/** Opens a folder of a destination, or of the agent, which may be missing. */
export function openNew(path: string, root: string): OpenedPath {
  return openStored(path, root, { make: NEW_FOLDER });
}

/** Opens a folder that a container may write, which may be missing. */
export function openTarget(path: string, root: string): OpenedPath {
  return { path: trimSlashes(path), root, as: 'folder', make: NEW_FOLDER };
}

/** Reads standard input from a stored file. */
export function readsFrom(file: string, site: HostSite): Pick<StartStep, 'stdinFrom' | 'opens'> {
  return { stdinFrom: file, opens: [openStored(parentOf(file), storageRoot(file, site))] };
}

/** Writes standard output to a file in storage, and leaves the space free that agent.yaml reserves there. */
export function writesTo(file: string, site: HostSite): Pick<StartStep, 'stdoutTo' | 'stdoutLimit' | 'opens'> {
  const root = storageRoot(file, site);
  const free = site.backups.destinations.find(one => one.path === root)?.minFree ?? SCRATCH_RESERVE;
  return { stdoutTo: file, stdoutLimit: { free }, opens: [openNew(parentOf(file), root)] };
}

/** The failure of `cat` and of the packers at a full destination. */
export const DISK_FULL: FailureReason = {
  says: 'No space left',
  code: 'destination-full',
  remedy: 'Free space at the destination. No earlier backup was changed.',
};

/** Copies a file: whichever program copies, the agent has opened both ends. */
export function copiesFile(
  from: Pick<StartStep, 'stdinFrom' | 'opens'>,
  to: Pick<StartStep, 'stdoutTo' | 'stdoutLimit' | 'opens'>,
): Pick<StartStep, 'argv' | 'stdinFrom' | 'stdoutTo' | 'stdoutLimit' | 'opens'> {
  return { argv: ['cat'], ...from, ...to, opens: [...(from.opens ?? []), ...(to.opens ?? [])] };
}

/** Copies a stored folder. */
export function copiesFolder(from: string, root: string, to: OpenedPath): Pick<StartStep, 'argv' | 'opens'> {
  return {
    argv: ['cp', '--archive', '--no-target-directory', '--', `${from}/.`, `${to.path}/`],
    opens: [openStored(from, root), to],
  };
}

/** Checks the space of the agent's own folder: programs that resolve paths themselves work only there. */
export function planScratchCheck(name: string, folder: string, expected: number, site: HostSite): CheckTargetStep {
  const needs = Math.ceil(expected) + SCRATCH_RESERVE;
  return { do: 'check-target', name, path: site.backups.records, needs, folder, own: true };
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

export function trimSlashes(path: string): string {
  return path.replace(/(?<=.)\/+$/, '');
}
