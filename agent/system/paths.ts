import { realpath } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import { Refused } from '../../protocol/refusal.ts';
import { isUnder } from '../plan/paths.ts';
import { refusals } from '../refusals.ts';

/** Throws `Refused` unless the path is under `root`, both as it is written and after links are resolved. */
export async function requireUnder(path: string, root: string): Promise<void> {
  const isWrittenUnder = isUnder(path, root) || isUnder(path, await resolveLinks(root));
  if (!isWrittenUnder || !(await isReallyUnder(path, [root]))) throw new Refused(refusals.pathOutside(path, root));
}

/** Returns true if the path is one of the roots or below it, after the links of both are resolved. */
export async function isReallyUnder(path: string, roots: readonly string[]): Promise<boolean> {
  const real = await resolveLinks(path);
  const realRoots = await Promise.all(roots.map(resolveLinks));
  return realRoots.some(root => isUnder(real, root));
}

/** Resolves links in the part of the path that exists, and appends the rest. */
export async function resolveLinks(path: string): Promise<string> {
  let existing = normalize(path);
  let rest = '';
  for (;;) {
    const real = await realpath(existing).catch(() => undefined);
    if (real !== undefined) return join(real, rest);
    if (existing === dirname(existing)) return normalize(path);
    rest = join(basename(existing), rest);
    existing = dirname(existing);
  }
}
