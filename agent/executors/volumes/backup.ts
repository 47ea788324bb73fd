import type { HostReader, OpenedPath, Plan, StartStep, Step } from '../../plan/plan.ts';
import {
  findBackupGroup,
  findSource,
  listBackupChanges,
  parseTimeouts,
  planPartialCleanup,
  planPrune,
  planReadBack,
  planTargetCheck,
  readVersion,
  summarizeGroup,
} from '../backup/group.ts';
import type { BackupSource } from '../backup/opened.ts';
import { openNew, openSource, openStored } from '../backup/opened.ts';
import { planQuiesce } from '../backup/quiesce.ts';
import type { PlanContext } from '../executor.ts';
import { copyOptions, describeEarlier, PROGRESS, planSourceCheck, type VolumesBackupIntent } from './copy.ts';
import { findRemote, planRemote } from './remote.ts';
import { planRestic } from './restic.ts';
import { rsync } from './rsync.ts';

/** Name of the only copy in a mirror. */
const MIRROR = 'mirror';
/** Number of files that one run may delete from a mirror. */
const MAX_DELETIONS = 10_000;

export async function planBackup(intent: VolumesBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, at } = context;
  const remote = findRemote(intent.destination, site);
  if (remote) return planRemote(intent, remote, context, host);
  if (intent.method === 'restic') return planRestic(intent, context, host);
  const isMirror = intent.method === 'mirror';
  const options = copyOptions(intent);
  const source = await findSource(intent, site, host);
  const group = await findBackupGroup(intent, context, host, isMirror ? () => MIRROR : undefined);
  const partial = isMirror ? MIRROR : group.partial;
  const { folder, root, last } = group;
  const services = await planQuiesce(intent, source, site, host);
  const times = parseTimeouts(intent);
  const to = `${folder}/${partial}/`;
  const parent = last && !isMirror ? `${folder}/${last.name}` : undefined;
  const opens = [openSource(source), openNew(to, root), ...(parent === undefined ? [] : [openStored(parent, root)])];
  // A mirror is changed in place.
  const state = isMirror ? 'The mirror may be incomplete until a backup succeeds.' : describeEarlier(group);
  const copy = rsync(
    'copy',
    [
      ...options,
      ...(isMirror ? ['--delete-delay', ...(intent.accept_shrink ? [] : [`--max-delete=${MAX_DELETIONS}`])] : []),
      ...(parent === undefined ? [] : ['--link-dest', parent]),
      ...PROGRESS,
      '--',
      `${source.path}/`,
      to,
    ],
    times,
    { remedy: 'Read the step’s output.', state, opens },
  );
  const comparing =
    intent.verify_level === 'compare' ? [planComparison(source, options, to, times, { state, opens })] : [];
  const version = await readVersion(['rsync'], host);
  return {
    title: `backup of ${source.label} to ${folder}`,
    summary: `${summarizeGroup(group)} ${services.note}`.trim(),
    changes: isMirror
      ? [{ subject: folder, change: 'write', details: [MIRROR] }]
      : listBackupChanges(group, intent, at),
    steps: [
      {
        ...planTargetCheck(group, (last?.bytes ?? 0) * (isMirror ? 0.1 : 1.1)),
        ...((intent.ownership ?? 'keep') === 'keep' ? { owners: true as const } : {}),
      },
      planSourceCheck(source, site, group, intent),
      ...services.quiesce,
      copy,
      {
        do: 'compare-copy',
        name: 'compare the copy',
        ...{ folder, root, copy: partial, source: source.path, sourceRoot: source.root, since: at },
        owners: (intent.ownership ?? 'keep') === 'keep',
      },
      ...comparing,
      // The services resume before the copy is read back: that takes long.
      ...services.resume,
      planReadBack({ ...group, partial }, context, intent, {
        kind: 'docker_volumes',
        source: source.label,
        checks: ['sha256 of every file', ...comparing.map(() => 'rsync --checksum against the source')],
        versions: { rsync: version },
        ...(last && !isMirror ? { parent: last.name } : {}),
      }),
      ...(isMirror ? [] : [planPrune(group, intent)]),
    ],
    undo: [],
    cleanup: [...services.cleanup, ...(isMirror ? [] : [planPartialCleanup(group, 'check the destination')])],
  };
}

/** Plans the comparison of every byte of source and copy while nothing changes. */
function planComparison(
  source: BackupSource,
  options: string[],
  to: string,
  times: ReturnType<typeof parseTimeouts>,
  { state, opens }: { state: string; opens: OpenedPath[] },
): Step {
  const argv = ['--dry-run', '--checksum', '--delete', '--itemize-changes', ...options, '--', `${source.path}/`, to];
  const step: StartStep = rsync('compare', argv, times, {
    remedy: 'Check both disks: the copy differs from the source.',
    ...{ state, opens },
  });
  // Folders may differ in their times. rsync prints a line for each file that differs.
  const differs = ['>f', '<f', 'cL', '*deleting'].map(begins => ({ begins, ends: [] }));
  return { ...step, fatal: differs, failure: { ...step.failure, code: 'backup-broken' } };
}
