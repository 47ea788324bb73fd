import type { Look, Plan, Start, Step } from '../../plan/plan.ts';
import {
  changesOf,
  checkTarget,
  clearPartial,
  findSource,
  pruneOf,
  readBack,
  type Source,
  shelfOf,
  summaryOf,
  timesOf,
  versionOf,
} from '../backup/group.ts';
import { holdStill } from '../backup/quiesce.ts';
import type { Context } from '../executor.ts';
import { checkSource, copyOptions, PROGRESS, type VolumesBackup } from './copy.ts';
import { findRemote, planRemote } from './remote.ts';
import { planRestic } from './restic.ts';
import { rsync } from './rsync.ts';

/** The one copy of a mirror. */
const MIRROR = 'mirror';
/** How many files a mirror may lose at once. */
const MASS = 10_000;

export async function planBackup(intent: VolumesBackup, context: Context, look: Look): Promise<Plan> {
  const { site, at } = context;
  const remote = findRemote(intent.destination, site);
  if (remote) return planRemote(intent, remote, context, look);
  if (intent.method === 'restic') return planRestic(intent, context, look);
  const isMirror = intent.method === 'mirror';
  const options = copyOptions(intent);
  const source = await findSource(intent, look);
  const shelf = await shelfOf(intent, context, look, isMirror ? () => MIRROR : undefined);
  const partial = isMirror ? MIRROR : shelf.partial;
  const { folder, last } = shelf;
  const still = await holdStill(intent, source, site, look);
  const times = timesOf(intent);
  const to = `${folder}/${partial}/`;
  const copy = rsync(
    'copy',
    [
      ...options,
      ...(isMirror ? ['--delete-delay', ...(intent.accept_shrink ? [] : [`--max-delete=${MASS}`])] : []),
      ...(last && !isMirror ? [`--link-dest=../${last.name}`] : []),
      ...PROGRESS,
      '--',
      `${source.path}/`,
      to,
    ],
    times,
    'Read the step’s output. The earlier backups are untouched.',
  );
  const comparing = intent.verify_level === 'compare' ? [compare(source, options, to, times)] : [];
  const version = await versionOf(['rsync'], look);
  return {
    title: `backup of ${source.told} to ${folder}`,
    summary: summaryOf(shelf),
    changes: isMirror ? [{ subject: folder, change: 'write', details: [MIRROR] }] : changesOf(shelf, intent, at),
    steps: [
      {
        ...checkTarget(shelf, (last?.bytes ?? 0) * (isMirror ? 0.1 : 1.1)),
        ...((intent.ownership ?? 'keep') === 'keep' ? { owners: true as const } : {}),
      },
      checkSource(source, site, shelf, intent),
      ...still.hold,
      copy,
      ...comparing,
      // What was held still goes on before the copy is read back: that takes long.
      ...still.release,
      readBack({ ...shelf, partial }, context, intent, {
        kind: 'docker_volumes',
        source: source.told,
        checks: ['sha256 of every file', ...comparing.map(() => 'rsync --checksum against the source')],
        versions: { rsync: version },
        ...(last && !isMirror ? { parent: last.name } : {}),
      }),
      ...(isMirror ? [] : [pruneOf(shelf, intent)]),
    ],
    undo: [],
    cleanup: [...still.cleanup, ...(isMirror ? [] : [clearPartial(shelf, 'check the destination')])],
  };
}

/** Every byte of source and copy, while nothing changes: nothing may differ. */
function compare(source: Source, options: string[], to: string, times: ReturnType<typeof timesOf>): Step {
  const argv = ['--dry-run', '--checksum', '--delete', '--itemize-changes', ...options, '--', `${source.path}/`, to];
  const step: Start = rsync('compare', argv, times, 'Look at both disks: the copy is not what the source is.');
  // Folders may differ in their times; a line for each file that does.
  const differs = ['>f', '<f', 'cL', '*deleting'].map(begins => ({ begins, ends: [] }));
  return { ...step, fatal: differs, failure: { ...step.failure, code: 'backup-broken' } };
}
