import { lstat, rename } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { messageOf } from '../../protocol/refusal.ts';
import type { ClearStep, SwapStep } from '../plan/plan.ts';
import { openFolder, removeTree } from '../system/safe-paths.ts';
import { failStep } from './backup/files.ts';
import type { StepExecution } from './runner.ts';

/** Exchanges two paths. Each half is a rename that is skipped if it is done: an earlier agent may have stopped in between. */
export async function* swapPaths({ path, next, aside, root, sides = [], back }: SwapStep): StepExecution {
  await using folder = await openFolder(dirname(path), root);
  if (!folder) return failStep('swap-failed', `The folder of ${path} does not exist.`, 'Create it on the host.');
  // All of them are in one folder.
  const at = (file: string) => folder.at(basename(file));
  const exists = async (file: string) => (await lstat(at(file)).catch(() => undefined)) !== undefined;
  const move = (from: string, to: string) => rename(at(from), at(to));
  try {
    if (back) {
      if (await exists(aside)) {
        if (await exists(path)) await move(path, next);
        await move(aside, path);
        for (const side of sides) {
          await removeTree(folder, basename(path + side));
          if (await exists(aside + side)) await move(aside + side, path + side);
        }
      }
      // A copy: the backup still holds the data.
      await removeTree(folder, basename(next));
    } else {
      if ((await exists(next)) && (await exists(path)) && !(await exists(aside))) await move(path, aside);
      if (await exists(next)) {
        for (const side of sides) if (await exists(path + side)) await move(path + side, aside + side);
      }
      if (await exists(next)) await move(next, path);
    }
    await folder.sync();
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
  await using folder = await openFolder(dirname(path), root);
  if (!folder) return { outcome: 'succeeded' };
  await removeTree(folder, basename(path));
  yield { text: `removed ${path}\n` };
  return { outcome: 'succeeded' };
}
