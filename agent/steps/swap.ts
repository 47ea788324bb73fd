import { realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import { messageOf } from '../../protocol/refusal.ts';
import type { ClearStep, SwapStep } from '../plan/plan.ts';
import { failStep, type StepExecution, syncFolder } from './backup-files.ts';

/** Each half is a rename, and is done only where it has not been: an earlier agent may have come to the middle. */
export async function* swapPaths({ path, next, aside, roots, sides = [], back }: SwapStep): StepExecution {
  const isThere = async (one: string) => (await stat(one).catch(() => undefined)) !== undefined;
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  const real = await Promise.all(roots.map(root => realpath(root).catch(() => root)));
  if (!real.some(root => parent === root || parent.startsWith(root + sep)))
    return failStep(
      'path-outside',
      `${path} does not stay under the folders that may be restored.`,
      'Add its folder to backups.sources in agent.yaml.',
    );
  try {
    if (back) {
      if (await isThere(aside)) {
        if (await isThere(path)) await rename(path, next);
        await rename(aside, path);
        for (const side of sides) {
          await rm(path + side, { force: true });
          if (await isThere(aside + side)) await rename(aside + side, path + side);
        }
      }
      // A copy of what the backup holds still: nobody needs it.
      await rm(next, { recursive: true, force: true });
    } else {
      if ((await isThere(next)) && (await isThere(path)) && !(await isThere(aside))) await rename(path, aside);
      if (await isThere(next)) {
        for (const side of sides) if (await isThere(path + side)) await rename(path + side, aside + side);
      }
      if (await isThere(next)) await rename(next, path);
    }
    await syncFolder(dirname(path));
  } catch (error) {
    return failStep(
      'swap-failed',
      `${path} could not be exchanged: ${messageOf(error)}`,
      'A folder that is a mount point itself can’t be renamed: restore into a folder below it.',
    );
  }
  yield { text: back ? `${path} is as it was\n` : `what was there before is ${aside}\n` };
  return { outcome: 'succeeded' };
}

export async function* removePath({ path, root }: ClearStep): StepExecution {
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) return { outcome: 'succeeded' };
  const base = await realpath(root).catch(() => root);
  if (!real.startsWith(base + sep))
    return failStep(
      'path-outside',
      `${path} does not stay under ${root}.`,
      'Replace the link by a folder on the host.',
    );
  await rm(real, { recursive: true, force: true });
  return { outcome: 'succeeded' };
}
