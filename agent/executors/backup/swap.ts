import { findRoot } from '../../plan/paths.ts';
import type { SwapStep } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import { timestampOf } from './group.ts';

/** SQLite's own files next to a database: it would apply another database's to the restored one. */
export const SQLITE_SIDE_FILES = ['-wal', '-shm', '-journal'];

/** The steps that exchange a file or folder for its restored copy, and back. */
export interface FileSwap {
  /** The path of the restored copy, until it takes its place. */
  next: string;
  /** The path at which the current data is kept. */
  aside: string;
  swap: SwapStep;
  rollback: SwapStep;
  /** Removes the copy if the plan ended between copy and swap. */
  cleanup: SwapStep;
}

/** `copyStep`: the step that makes the copy at `next`. `label`: tells several swaps of one plan apart. */
export function planSwap(
  path: string,
  { copyStep, label, sides }: { copyStep: string; label?: string; sides?: string[] },
  { site, run, at }: Pick<PlanContext, 'site' | 'run' | 'at'>,
): FileSwap {
  const next = `${path}.restoring-${run}`;
  const aside = `${path}.before-${timestampOf(at)}`;
  const fields = {
    path,
    next,
    aside,
    root: findRoot(path, site.backups.sources),
    ...(sides === undefined ? {} : { sides }),
  };
  const [swap, back, clear] =
    label === undefined
      ? ['swap', 'swap back', 'clear away']
      : [`swap ${label}`, `swap ${label} back`, `clear ${label} away`];
  return {
    next,
    aside,
    swap: { do: 'swap', name: swap, ...fields },
    rollback: { do: 'swap', name: back, ...fields, back: true },
    cleanup: { do: 'swap', name: clear, ...fields, back: true, ifBegan: copyStep, unlessBegan: swap },
  };
}
