import { sep } from 'node:path';

export function isUnder(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** The root of a list that holds the path; where none does, one that the guard will refuse it by. */
export function findRoot(path: string, roots: string[]): string {
  return roots.find(root => path === root || path.startsWith(`${root}/`)) ?? roots[0] ?? '/nowhere';
}
