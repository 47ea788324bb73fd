import type { HostReader, Plan, StartStep, Step } from '../../plan/plan.ts';
import {
  type BackupSource,
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
import { planQuiesce } from '../backup/quiesce.ts';
import type { PlanContext } from '../executor.ts';
import { copyOptions, PROGRESS, planSourceCheck, type VolumesBackupIntent } from './copy.ts';
import { findRemote, planRemote } from './remote.ts';
import { planRestic } from './restic.ts';
import { rsync } from './rsync.ts';

/** The one copy of a mirror. */
const MIRROR = 'mirror';
/** How many files a mirror may lose at once. */
const MANY_FILES = 10_000;

export async function planBackup(intent: VolumesBackupIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, at } = context;
  const remote = findRemote(intent.destination, site);
  if (remote) return planRemote(intent, remote, context, look);
  if (intent.method === 'restic') return planRestic(intent, context, look);
  const isMirror = intent.method === 'mirror';
  const options = copyOptions(intent);
  const source = await findSource(intent, look);
  const shelf = await findBackupGroup(intent, context, look, isMirror ? () => MIRROR : undefined);
  const partial = isMirror ? MIRROR : shelf.partial;
  const { folder, last } = shelf;
  const still = await planQuiesce(intent, source, site, look);
  const times = parseTimeouts(intent);
  const to = `${folder}/${partial}/`;
  const copy = rsync(
    'copy',
    [
      ...options,
      ...(isMirror ? ['--delete-delay', ...(intent.accept_shrink ? [] : [`--max-delete=${MANY_FILES}`])] : []),
      ...(last && !isMirror ? [`--link-dest=../${last.name}`] : []),
      ...PROGRESS,
      '--',
      `${source.path}/`,
      to,
    ],
    times,
    'Read the step’s output. The earlier backups are untouched.',
  );
  const comparing = intent.verify_level === 'compare' ? [planComparison(source, options, to, times)] : [];
  const version = await readVersion(['rsync'], look);
  return {
    title: `backup of ${source.label} to ${folder}`,
    summary: summarizeGroup(shelf),
    changes: isMirror
      ? [{ subject: folder, change: 'write', details: [MIRROR] }]
      : listBackupChanges(shelf, intent, at),
    steps: [
      {
        ...planTargetCheck(shelf, (last?.bytes ?? 0) * (isMirror ? 0.1 : 1.1)),
        ...((intent.ownership ?? 'keep') === 'keep' ? { owners: true as const } : {}),
      },
      planSourceCheck(source, site, shelf, intent),
      ...still.quiesce,
      copy,
      ...comparing,
      // What was held still goes on before the copy is read back: that takes long.
      ...still.resume,
      planReadBack({ ...shelf, partial }, context, intent, {
        kind: 'docker_volumes',
        source: source.label,
        checks: ['sha256 of every file', ...comparing.map(() => 'rsync --checksum against the source')],
        versions: { rsync: version },
        ...(last && !isMirror ? { parent: last.name } : {}),
      }),
      ...(isMirror ? [] : [planPrune(shelf, intent)]),
    ],
    undo: [],
    cleanup: [...still.cleanup, ...(isMirror ? [] : [planPartialCleanup(shelf, 'check the destination')])],
  };
}

/** Every byte of source and copy, while nothing changes: nothing may differ. */
function planComparison(
  source: BackupSource,
  options: string[],
  to: string,
  times: ReturnType<typeof parseTimeouts>,
): Step {
  const argv = ['--dry-run', '--checksum', '--delete', '--itemize-changes', ...options, '--', `${source.path}/`, to];
  const step: StartStep = rsync('compare', argv, times, 'Look at both disks: the copy is not what the source is.');
  // Folders may differ in their times; a line for each file that does.
  const differs = ['>f', '<f', 'cL', '*deleting'].map(begins => ({ begins, ends: [] }));
  return { ...step, fatal: differs, failure: { ...step.failure, code: 'backup-broken' } };
}
