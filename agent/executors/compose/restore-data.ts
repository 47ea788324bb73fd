import { parseManifest } from '../../plan/backup-manifest.ts';
import { type ContainerDetails, type ContainerListing, composeContainersPath } from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import { isUnder } from '../../plan/paths.ts';
import type { HostReader, ReadResult, Release, RestorePoint, Step, SwapStep } from '../../plan/plan.ts';
import { findSource } from '../backup/group.ts';
import { copiesFile, copiesFolder, openTarget, parentOf, readsFrom, storageRoot } from '../backup/opened.ts';
import { planSwap, SQLITE_SIDE_FILES } from '../backup/swap.ts';
import type { PlanContext } from '../executor.ts';
import type { StackConfig } from './compose-command.ts';
import { planChange, type StepLimits } from './steps.ts';

/** Restore of data as part of a rollback: steps before and after the stack is stopped, and their undo. */
export interface DataRestore {
  /** Name of the first step after which the stack may be down. */
  since: string;
  steps: Step[];
  undo: Step[];
  cleanup: Step[];
}

/** Limits of a copy. */
const COPYING = { timeout: 24 * 3_600_000, stallTimeout: 15 * 60_000 };

/**
 * Plans the restore of the newest release's backups while the stack is stopped. Throws Failure:
 * `restore-point-missing`, `restore-unsupported`, `restore-other-stack`.
 */
export async function planDataRestore(
  newest: Release | undefined,
  config: StackConfig,
  limits: StepLimits,
  { site, run, at }: PlanContext,
  host: HostReader,
): Promise<DataRestore> {
  const points = newest?.points ?? [];
  if (points.length === 0) {
    throw new Failure(
      'restore-point-missing',
      'The newest rollout has no backup, so there are no data to restore. Nothing was changed.',
      'Remove restore_data, or restore a backup by action: restore. "needs" and "backup_before" tie backups to a rollout.',
    );
  }
  const restores = await Promise.all(
    points.map((point, index) => planPointRestore(point, index, config.dir, { site, run, at }, host)),
  );
  const stop = 'stop the stack';
  const planStop = (name: string) => planChange(name, config, ['stop'], limits.up);
  return {
    since: stop,
    steps: [...restores.flatMap(one => one.before), planStop(stop), ...restores.map(one => one.swap)],
    undo: [
      { ...planStop('stop the stack again'), ifBegan: restores[0]?.swap.name ?? stop },
      ...restores.map(one => one.rollback),
    ],
    cleanup: restores.map(one => one.cleanup),
  };
}

/** Returns true if a container of the stack may write at the path. */
async function isWrittenBy(dir: string, path: string, host: HostReader): Promise<boolean> {
  const listed = ((await host.engine(composeContainersPath({ dir }))) ?? []) as ContainerListing[];
  for (const { Id } of listed) {
    const found = (await host.engine(`/containers/${Id}/json`)) as ReadResult<ContainerDetails>;
    if (found?.Mounts?.some(({ Source, RW }) => RW && isUnder(path, Source))) return true;
  }
  return false;
}

async function planPointRestore(
  point: RestorePoint,
  index: number,
  dir: string,
  { site, run, at }: Pick<PlanContext, 'site' | 'run' | 'at'>,
  host: HostReader,
): Promise<{ before: Step[]; swap: SwapStep; rollback: SwapStep; cleanup: SwapStep }> {
  const { kind, name, archive } = point;
  const text = await host.read(`${archive}.json`);
  if ((kind !== 'docker_volumes' && kind !== 'sqlite') || typeof text !== 'string') {
    throw new Failure(
      'restore-unsupported',
      `The backup ${name} (${kind}, ${archive}) can't be restored as part of a rollback. Nothing was changed.`,
      'Restore it by action: restore, and roll back without restore_data.',
    );
  }
  const manifest = parseManifest(text);
  if (!manifest) {
    throw new Failure(
      'backup-broken',
      `The manifest of the backup ${name} (${archive}.json) can't be used. Nothing was changed.`,
      'Inspect it on the host. Roll back without restore_data, or restore another backup.',
    );
  }
  const [, container, containerPath] = /^([A-Za-z0-9][\w.-]*):(\/.*)$/.exec(manifest.source) ?? [];
  const source =
    container === undefined ? { source: manifest.source } : { source_container: container, source_path: containerPath };
  const { path, root } = await findSource(source, site, host);
  // A manifest must not decide where the agent writes.
  if (!site.backups.sources.some(root => isUnder(path, root))) {
    throw new Failure(
      'path-outside',
      `The source ${path} of the backup ${name} is not under backups.sources. Nothing was changed.`,
      'Correct backups.sources in agent.yaml, or roll back without restore_data.',
    );
  }
  // A rollout may need backups of other stacks. The rules allowed a rollback of this stack only.
  if (!isUnder(path, dir) && !(await isWrittenBy(dir, path, host))) {
    throw new Failure(
      'restore-other-stack',
      `The source ${path} of the backup ${name} belongs to no container of this stack. Nothing was changed.`,
      'Restore it by action: restore, and roll back without restore_data.',
    );
  }
  const label = `${name}${index === 0 ? '' : ` (${index + 1})`}`;
  const copyStep = `copy ${label}`;
  const sides = kind === 'sqlite' ? { sides: SQLITE_SIDE_FILES } : {};
  const { next, swap, rollback, cleanup } = planSwap(path, { copyStep, label, ...sides }, { site, run, at });
  const folder = archive.slice(0, archive.lastIndexOf('/'));
  const stored = storageRoot(archive, site);
  const copy =
    kind === 'sqlite'
      ? copiesFile(readsFrom(`${archive}/${manifest.file}`, site), {
          stdoutTo: next,
          stdoutLimit: { size: manifest.bytes },
          opens: [{ path: parentOf(next), root, as: 'folder' }],
        })
      : copiesFolder(archive, stored, openTarget(next, root));
  return {
    before: [
      { do: 'check-backup', name: `check ${label}`, folder, root: stored, backup: archive.slice(folder.length + 1) },
      {
        do: 'start',
        name: copyStep,
        ...copy,
        ...COPYING,
        repeatable: true,
        failure: { code: 'copy-failed', remedy: 'Read the step’s output. The data were not changed.' },
      },
    ],
    ...{ swap, rollback: { ...rollback, ifBegan: swap.name }, cleanup },
  };
}
