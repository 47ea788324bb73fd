import { realpath } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { Refused } from '../../protocol/refusal.ts';
import { isUnder } from '../plan/paths.ts';
import { refusals } from '../refusals.ts';

/** Resolves links as far as the path exists, and holds the result under `root`. Throws `Refused`. */
export async function requireUnder(path: string, root: string): Promise<void> {
  const realRoot = await realpath(root).catch(() => root);
  if (!isUnder(normalize(path), root) && !isUnder(normalize(path), realRoot))
    throw new Refused(refusals.pathOutside(path, root));
  let existing = normalize(path);
  let rest = '';
  for (;;) {
    const real = await realpath(existing).catch(() => undefined);
    if (real !== undefined) {
      if (!isUnder(join(real, rest), realRoot)) throw new Refused(refusals.pathOutside(path, root));
      return;
    }
    if (existing === dirname(existing)) return;
    rest = join(existing.slice(dirname(existing).length), rest);
    existing = dirname(existing);
  }
}
