import { realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../../protocol/refusal.ts';
import { isUnder } from '../plan/paths.ts';
import type { ClearStep, SwapStep } from '../plan/plan.ts';
import { failStep, syncFolder } from './backup/files.ts';
import type { StepExecution } from './runner.ts';

/** Exchanges two paths. Each half is a rename that is skipped if it is done: an earlier agent may have stopped in between. */
export async function* swapPaths({ path, next, aside, roots, sides = [], back }: SwapStep): StepExecution {
  const exists = async (file: string) => (await stat(file).catch(() => undefined)) !== undefined;
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  const real = await Promise.all(roots.map(root => realpath(root).catch(() => root)));
  if (!real.some(root => isUnder(parent, root)))
    return failStep(
      'path-outside',
      `${path} is not under a folder that backups may restore, after links are resolved.`,
      'Add its folder to backups.sources in agent.yaml.',
    );
  try {
    if (back) {
      if (await exists(aside)) {
        if (await exists(path)) await rename(path, next);
        await rename(aside, path);
        for (const side of sides) {
          await rm(path + side, { force: true });
          if (await exists(aside + side)) await rename(aside + side, path + side);
        }
      }
      // A copy: the backup still holds the data.
      await rm(next, { recursive: true, force: true });
    } else {
      if ((await exists(next)) && (await exists(path)) && !(await exists(aside))) await rename(path, aside);
      if (await exists(next)) {
        for (const side of sides) if (await exists(path + side)) await rename(path + side, aside + side);
      }
      if (await exists(next)) await rename(next, path);
    }
    await syncFolder(dirname(path));
  } catch (error) {
    return failStep(
      'swap-failed',
      `${path} could not be replaced: ${messageOf(error)}`,
      'If it is a mount point, it can’t be renamed: restore into a folder below it.',
    );
  }
  yield { text: back ? `${path} is restored to its previous state\n` : `the previous content is kept as ${aside}\n` };
  return { outcome: 'succeeded' };
}

export async function* removePath({ path, root }: ClearStep): StepExecution {
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) return { outcome: 'succeeded' };
  const base = await realpath(root).catch(() => root);
  if (real === base || !isUnder(real, base))
    return failStep(
      'path-outside',
      `${path} is not under ${root} after links are resolved.`,
      'Replace the link with a folder on the host.',
    );
  await rm(real, { recursive: true, force: true });
  return { outcome: 'succeeded' };
}
