import type { Look, Plan, Start } from '../../plan.ts';
import {
  DEFAULT_MIN_KEEP,
  DEFAULT_STALL,
  DEFAULT_TIMEOUT,
  findDestination,
  findEarlier,
  findSource,
  rulesOf,
  stampOf,
  under,
} from '../backups.ts';
import { type Claim, type Context, type Intent, parseDuration, type Site } from '../executor.ts';
import { checkOptions, filters } from './options.ts';
import { holdStill } from './source.ts';

export type VolumesBackup = Extract<Intent, { action: 'backup'; backup_type: 'docker_volumes' }>;

/** The one copy of a mirror. */
const MIRROR = 'mirror';

/** What the intent reaches by name. */
export function claimsOfBackup(intent: VolumesBackup, site: Site): Claim[] {
  const { source, destination } = intent;
  return [
    ...(source === undefined ? [] : [{ path: source, root: under(source, site.backups.sources) }]),
    ...(destination?.startsWith('/')
      ? [
          {
            path: destination,
            root: under(
              destination,
              site.backups.destinations.map(one => one.path),
            ),
          },
        ]
      : []),
  ];
}

export async function planBackup(intent: VolumesBackup, context: Context, look: Look): Promise<Plan> {
  const { site, run, at, document } = context;
  const options = checkOptions(intent.options ?? []);
  const excluded = filters(intent.exclude ?? []);
  const source = await findSource(intent, look);
  const { destination, path } = await findDestination(intent, site, look);
  const name = intent.id ?? document.name;
  const folder = `${path}/${name}`;
  const earlier = await findEarlier(folder, look);
  const isMirror = intent.method === 'mirror';
  const as = isMirror ? MIRROR : stampOf(at);
  const partial = isMirror ? MIRROR : `.${as}.partial.${run}`;
  const still = await holdStill(intent, source, site, look);
  const last = earlier.at(-1);
  const copy: Start = {
    do: 'start',
    name: 'copy',
    argv: [
      'rsync',
      // -1: times count to the nanosecond, or what changes twice in a second is taken for the same.
      ...['--archive', '--hard-links', '--numeric-ids', '--one-file-system', '--modify-window=-1'],
      ...ownership(intent.ownership),
      ...options,
      ...excluded,
      ...(isMirror ? ['--delete-delay', '--max-delete=100000'] : []),
      ...(last && !isMirror ? [`--link-dest=../${last.name}`] : []),
      ...['--stats', '--info=progress2,name0', '--no-inc-recursive', '--outbuf=L'],
      '--',
      `${source.path}/`,
      `${folder}/${partial}/`,
    ],
    // No ~/.popt of a user may add an option.
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    timeout: intent.timeout === undefined ? DEFAULT_TIMEOUT : parseDuration(intent.timeout),
    stallTimeout: intent.stall_timeout === undefined ? DEFAULT_STALL : parseDuration(intent.stall_timeout),
    repeatable: true,
    // 24: files that vanished meanwhile; once more finds the rest.
    retry: [
      {
        on: ['rsync warning: some files vanished', 'error in socket IO', 'connection unexpectedly closed'],
        times: 2,
        pause: 2_000,
      },
    ],
    failure: {
      code: 'copy-failed',
      remedy:
        'Read the step’s output: "Permission denied" names files that the agent may not read; "Operation not permitted" on chown is a share that squashes root: say ownership: drop. The earlier backups are untouched.',
    },
  };
  const rules = rulesOf(intent.keep, intent.retention_days);
  return {
    title: `backup of ${source.told} to ${folder}`,
    summary: last
      ? `${earlier.length} earlier ${earlier.length === 1 ? 'backup' : 'backups'}; the newest holds ${last.files} files.`
      : 'The first backup.',
    changes: [{ subject: folder, change: 'write', details: [as] }],
    steps: [
      {
        do: 'check-target',
        name: 'check the destination',
        ...destination,
        needs: Math.ceil((last?.bytes ?? 0) * (isMirror ? 0.1 : 1.1)) + destination.minFree,
        folder,
      },
      {
        do: 'check-source',
        name: 'check the source',
        path: source.path,
        roots: site.backups.sources,
        last: last && { bytes: last.bytes, files: last.files },
        acceptShrink: intent.accept_shrink === true,
      },
      ...still.hold,
      copy,
      // What was held still goes on before the copy is read back: that takes long.
      ...still.release,
      {
        do: 'seal',
        name: 'read back',
        folder,
        partial,
        as,
        manifest: { kind: 'docker_volumes', name, run, at, source: source.told, notes: intent.notes },
      },
      ...(isMirror
        ? []
        : [{ do: 'prune' as const, name: 'prune', folder, rules, minKeep: intent.min_keep ?? DEFAULT_MIN_KEEP }]),
    ],
    undo: [],
    cleanup: still.cleanup,
  };
}

function ownership(how: VolumesBackup['ownership']): string[] {
  if (how === 'drop') return ['--no-owner', '--no-group'];
  return how === 'fake_super' ? ['--fake-super'] : [];
}
