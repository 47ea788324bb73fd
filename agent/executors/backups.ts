import { type Answer, CannotPlan, type Look } from '../plan.ts';
import type { BackupDestination, Keep, Site } from './executor.ts';

const MINUTE = 60_000;
export const DEFAULT_TIMEOUT = 6 * 60 * MINUTE;
export const DEFAULT_STALL = 15 * MINUTE;
export const DEFAULT_MIN_KEEP = 3;

/** What an earlier backup's manifest says, as far as a plan needs it. */
export interface Earlier {
  name: string;
  run: string;
  at: string;
  bytes: number;
  files: number;
}

/** The root of a list that holds the path; where none does, one that the guard will refuse it by. */
export function under(path: string, roots: string[]): string {
  return roots.find(root => path === root || path.startsWith(`${root}/`)) ?? roots[0] ?? '/nowhere';
}

/** The host's destination that holds the intent's one. Throws CannotPlan: `destination-not-allowed`, `container-missing`, `container-path-unknown`. */
export async function findDestination(
  intent: {
    destination?: string | undefined;
    destination_container?: string | undefined;
    destination_path?: string | undefined;
  },
  site: Site,
  look: Look,
): Promise<{ destination: BackupDestination; path: string }> {
  const path =
    intent.destination ??
    (await findSource({ source_container: intent.destination_container, source_path: intent.destination_path }, look))
      .path;
  const destination = site.backups.destinations.find(one => path === one.path || path.startsWith(`${one.path}/`));
  if (destination) return { destination, path: path.replace(/\/+$/, '') };
  throw new CannotPlan(
    'destination-not-allowed',
    path.startsWith('/')
      ? `This host does not let backups be written to ${path}.`
      : `"${path}" is another host; backups go to a folder of this one.`,
    'Name a folder below one of backups.destinations in agent.yaml; a share is mounted first.',
  );
}

/** Backups that have a manifest, the oldest first. */
export async function findEarlier(folder: string, look: Look): Promise<Earlier[]> {
  const names = (await look.list(folder)) ?? [];
  const found: Earlier[] = [];
  for (const name of names.filter(one => one.endsWith('.json') && names.includes(one.slice(0, -5))).sort()) {
    const text = await look.read(`${folder}/${name}`);
    try {
      const { run, at, bytes, files } = JSON.parse(text ?? '') as Earlier;
      found.push({ name: name.slice(0, -5), run, at, bytes, files });
    } catch {
      // No manifest: nothing to build on.
    }
  }
  return found;
}

/** `retention_days: N` counts days that have backups: an outage ages nothing out. */
export function rulesOf(keep: Keep | undefined, days: number | undefined) {
  return { ...(days === undefined ? {} : { last: 1, daily: days }), ...keep };
}

/** `20261121T061200.123Z`: sorts by time. */
export function stampOf(at: string): string {
  return at.replaceAll(/[-:]/g, '');
}

/** What is backed up: a folder of this host, and how people know it. */
export interface Source {
  path: string;
  told: string;
  container?: string;
}

export interface Inspected {
  Id: string;
  State: { Running: boolean; Paused: boolean };
  Mounts?: { Type: string; Source: string; Destination: string }[];
}

interface Where {
  source?: string | undefined;
  source_container?: string | undefined;
  source_path?: string | undefined;
}

/** A path inside a container is the folder of the volume or bind that is mounted there. Throws CannotPlan: `container-missing`, `container-path-unknown`. */
export async function findSource(intent: Where, look: Look): Promise<Source> {
  if (intent.source !== undefined) {
    const path = intent.source.replace(/(?<=.)\/+$/, '');
    return { path, told: path };
  }
  const { source_container: container = '', source_path: path = '' } = intent;
  const told = `${container}:${path}`;
  const found = (await look.engine(`/containers/${encodeURIComponent(container)}/json`)) as Answer<Inspected>;
  if (found === undefined) return { path: `(${told})`, told, container };
  if (found === null)
    throw new CannotPlan(
      'container-missing',
      `There is no container ${container} on this host.`,
      'Correct the name; "docker ps --all" lists them.',
    );
  const mounts = (found.Mounts ?? []).filter(
    ({ Destination }) => path === Destination || path.startsWith(`${Destination}/`),
  );
  const nearest = mounts.toSorted((a, b) => b.Destination.length - a.Destination.length)[0];
  if (!nearest)
    throw new CannotPlan(
      'container-path-unknown',
      `${path} in ${container} is neither on a volume nor on a folder of the host.`,
      `Name a path below one of its mounts: ${(found.Mounts ?? []).map(({ Destination }) => Destination).join(', ') || 'it has none'}.`,
    );
  return { path: `${nearest.Source}${path.slice(nearest.Destination.length)}`, told, container };
}
