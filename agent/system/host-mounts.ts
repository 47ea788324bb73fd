import { readFile } from 'node:fs/promises';
import { isUnder } from '../plan/paths.ts';

/*
 * A folder can have several names, by bind mounts of the host. Device and path in the file system identify it, and show also if
 * one folder is in another: names and inode numbers don't.
 */

/** A folder by its place in a file system. */
export interface FilePlace {
  /** Major and minor number of the device. */
  device: string;
  /** The path from the root of the file system. */
  path: string;
}

/** A mount of the agent's namespace: `at` is a folder, and `place` is what the folder shows. */
export interface HostMount {
  at: string;
  place: FilePlace;
}

/** Reads the mounts, in the order in which they were made. */
export async function readHostMounts(): Promise<HostMount[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** Parses proc_pid_mountinfo(5). */
export function parseMountInfo(text: string): HostMount[] {
  return text.split('\n').flatMap(line => {
    const [, , device, path, at] = line.split(' ');
    if (device === undefined || path === undefined || at === undefined) return [];
    return [{ at: unescapeOctal(at), place: { device, path: unescapeOctal(path) } }];
  });
}

/** Blanks, tabs, line ends and backslashes are written as three digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Returns the place of a path without links; undefined if no mount holds it. */
export function placeOf(path: string, mounts: readonly HostMount[]): FilePlace | undefined {
  const holding = mounts.filter(({ at }) => isUnder(path, at));
  // A later mount hides an earlier one at the same folder.
  const mount = holding.reduce<HostMount | undefined>(
    (best, one) => (best === undefined || one.at.length >= best.at.length ? one : best),
    undefined,
  );
  return mount && { device: mount.place.device, path: joinPlace(mount.place.path, path.slice(mount.at.length)) };
}

/** Returns the places that can be written through a folder: its own, and those of the mounts in it. */
export function placesWithin(folder: string, mounts: readonly HostMount[]): FilePlace[] {
  const own = placeOf(folder, mounts);
  return [...(own ? [own] : []), ...mounts.filter(({ at }) => isUnder(at, folder)).map(({ place }) => place)];
}

/** Returns true if the first place is in the second one, and is not the same. */
export function isStrictlyBelow(inner: FilePlace, outer: FilePlace): boolean {
  return inner.device === outer.device && inner.path !== outer.path && isUnder(inner.path, outer.path);
}

function joinPlace(root: string, rest: string): string {
  return `/${`${root}/${rest}`.split('/').filter(Boolean).join('/')}`;
}
