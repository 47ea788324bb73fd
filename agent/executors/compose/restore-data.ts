import { parseManifest } from '../../plan/backup-manifest.ts';
import { Failure } from '../../plan/failure.ts';
import { isUnder } from '../../plan/paths.ts';
import type { HostReader, Release, RestorePoint, Step, SwapStep } from '../../plan/plan.ts';
import { findSource, timestampOf } from '../backup/group.ts';
import type { PlanContext } from '../executor.ts';
import { planChange, type StepLimits } from './steps.ts';
import type { ComposeTarget } from './target.ts';

/** Data that come back with a rollback: steps before and after the stack is stopped, and the way back from them. */
export interface DataRestore {
  /** The step from which on the stack may be down. */
  since: string;
  steps: Step[];
  undo: Step[];
  cleanup: Step[];
}

/** What runs copies at most: a day. */
const COPYING = { timeout: 24 * 3_600_000, stallTimeout: 15 * 60_000 };
const SIDES = ['-wal', '-shm', '-journal'];

/**
 * The backups on which the newest release stands, put back while the stack is stopped. Throws Failure:
 * `restore-point-missing`, `restore-unsupported`.
 */
export async function planDataRestore(
  newest: Release | undefined,
  target: ComposeTarget,
  time: StepLimits,
  { site, run, at }: PlanContext,
  look: HostReader,
): Promise<DataRestore> {
  const points = newest?.points ?? [];
  if (points.length === 0) {
    throw new Failure(
      'restore-point-missing',
      'No backup was tied to the rollout that is to be left behind, so there are no data to bring back. Nothing was changed.',
      'Leave restore_data out, or restore a backup by action: restore. "needs" and "backup_before" tie backups to a rollout.',
    );
  }
  const made = await Promise.all(points.map((point, index) => planPointRestore(point, index, { site, run, at }, look)));
  const stop = 'stop the stack';
  const halt = (name: string) => planChange(name, target, ['stop'], time.up);
  return {
    since: stop,
    steps: [...made.flatMap(one => one.before), halt(stop), ...made.map(one => one.swap)],
    undo: [{ ...halt('stop the stack again'), ifBegan: made[0]?.swap.name ?? stop }, ...made.map(one => one.back)],
    cleanup: made.map(one => one.clear),
  };
}

async function planPointRestore(
  point: RestorePoint,
  index: number,
  { site, run, at }: Pick<PlanContext, 'site' | 'run' | 'at'>,
  look: HostReader,
): Promise<{ before: Step[]; swap: SwapStep; back: SwapStep; clear: SwapStep }> {
  const { kind, name, archive } = point;
  const text = await look.read(`${archive}.json`);
  if ((kind !== 'docker_volumes' && kind !== 'sqlite') || typeof text !== 'string') {
    throw new Failure(
      'restore-unsupported',
      `The backup ${name} (${kind}, ${archive}) can't be brought back within a rollback. Nothing was changed.`,
      'Restore it by action: restore, and roll back without restore_data.',
    );
  }
  const manifest = parseManifest(text);
  if (!manifest) {
    throw new Failure(
      'backup-broken',
      `The manifest of the backup ${name} (${archive}.json) can't be used. Nothing was changed.`,
      'Look at it on the host. Roll back without restore_data, or restore another backup.',
    );
  }
  const [, container, inside] = /^([A-Za-z0-9][\w.-]*):(\/.*)$/.exec(manifest.source) ?? [];
  const where =
    container === undefined ? { source: manifest.source } : { source_container: container, source_path: inside };
  const { path } = await findSource(where, look);
  // A manifest does not decide where the agent writes.
  if (!site.backups.sources.some(root => isUnder(path, root))) {
    throw new Failure(
      'path-outside',
      `The backup ${name} says that it is of ${path}, which is not under backups.sources. Nothing was changed.`,
      'Correct backups.sources in agent.yaml, or roll back without restore_data.',
    );
  }
  const next = `${path}.restoring-${run}`;
  const told = `${name}${index === 0 ? '' : ` (${index + 1})`}`;
  const swap: Omit<SwapStep, 'name'> = {
    do: 'swap',
    ...{ path, next, aside: `${path}.before-${timestampOf(at)}`, roots: site.backups.sources },
    ...(kind === 'sqlite' ? { sides: SIDES } : {}),
  };
  const folder = archive.slice(0, archive.lastIndexOf('/'));
  const from = kind === 'sqlite' ? `${archive}/${manifest.file}` : `${archive}/.`;
  const copying = `copy ${told}`;
  return {
    before: [
      { do: 'check-backup', name: `check ${told}`, folder, backup: archive.slice(folder.length + 1) },
      {
        do: 'start',
        name: copying,
        argv: ['cp', '--archive', '--no-target-directory', '--', from, next],
        ...COPYING,
        repeatable: true,
        failure: { code: 'copy-failed', remedy: 'Read the step’s output. Nothing was changed.' },
      },
    ],
    swap: { ...swap, name: `swap ${told}` },
    back: { ...swap, name: `swap ${told} back`, back: true, ifBegan: `swap ${told}` },
    clear: { ...swap, name: `clear ${told} away`, back: true, ifBegan: copying, unlessBegan: `swap ${told}` },
  };
}
