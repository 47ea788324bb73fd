import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep, Step, SwapStep } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { findBackup, findContainer, findSource, parseTimeouts, timestampOf } from '../backup/group.ts';
import { planQuiesce, planRestartChecks } from '../backup/quiesce.ts';
import type { Intent, PlanContext } from '../executor.ts';
import {
  findPlex,
  LIBRARY,
  PREFERENCES,
  planDatabaseChecks,
  planRemoval,
  planUnpack,
  plexStep,
  shortName,
} from './archive.ts';

export type PlexRestore = Extract<Intent, { action: 'restore'; of: { kind: 'plex' } }>;

const SIDES = ['-wal', '-shm', '-journal'];

/**
 * The databases are checked, put beside the ones that are there, and take their places while Plex is stopped. Preferences.xml
 * stays as it is: it names the server. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`,
 * `container-path-unknown`.
 */
export async function planRestore(intent: PlexRestore, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of.name}`;
  const backup = await findBackup({ name: intent.of.name, at: intent.at }, folder, ['plex'], look);
  if (intent.confirm_overwrite !== true) {
    throw new Failure(
      'overwrite-unconfirmed',
      'Plex’s databases would be replaced. Nothing was changed.',
      'Say confirm_overwrite: true in the intent; what is there is kept beside.',
    );
  }
  const name = intent.to_container;
  const container = await findContainer(name, look);
  const inside = (await findPlex(container, name, intent.to_path, site, look))?.folder ?? intent.to_path ?? '/config';
  const { path } = await findSource({ source_container: name, source_path: inside }, look);
  const scratch = `${site.backups.records}/restore-${run}`;
  const times = parseTimeouts(intent);
  const { image = '(its image)', file: program = '', parts = [LIBRARY] } = backup;
  const databases = parts.filter(part => part !== PREFERENCES);
  const still = await planQuiesce({ ...intent, consistency: 'stop' }, { container: name }, site, look);
  const checks = planRestartChecks(intent, still, site);
  const failure = { code: 'copy-failed', remedy: 'Read the step’s output. Plex’s databases are as they were.' };
  const put = (what: string, argv: [string, ...string[]]): StartStep => plexStep(what, argv, times, { failure });
  const each = databases.map(database => {
    const there = `${path}/${database}`;
    const next = `${there}.restoring-${run}`;
    const swap: Omit<SwapStep, 'name'> = {
      do: 'swap',
      ...{ path: there, next, aside: `${there}.before-${timestampOf(at)}`, roots: site.backups.sources, sides: SIDES },
    };
    const short = shortName(database);
    return {
      put: [
        put(`put ${short}`, ['cp', '--', `${scratch}/${database}`, next]),
        // As the folder's owner: the file itself may be missing.
        put(`owner of ${short}`, ['chown', `--reference=${path}`, '--', next]),
        put(`mode of ${short}`, ['chmod', '0644', '--', next]),
      ],
      swap: { ...swap, name: `swap ${short}` },
      back: { ...swap, name: `swap ${short} back`, back: true as const },
      clear: {
        ...swap,
        name: `clear ${short} away`,
        back: true as const,
        ifBegan: `put ${short}`,
        unlessBegan: `swap ${short}`,
      },
    };
  });
  const undo: Step[] = [
    ...still.hold.map(one => ({ ...one, name: `${one.name} again` })),
    ...each.map(({ back }) => back),
    ...still.release.map(one => ({ ...one, name: `${one.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${intent.of.name} (${backup.name}) to Plex in ${name}`,
    summary: `${backup.bytes} bytes of ${backup.at}; what is there now is kept beside, with .before-${timestampOf(at)}.`,
    changes: [{ subject: `${name}:${inside}`, change: 'write', details: [backup.name] }],
    steps: [
      planBackupCheck(folder, backup.name),
      planUnpack(`${folder}/${backup.name}`, scratch, times),
      ...planDatabaseChecks({ image, program, databases }, scratch, site, times),
      ...each.flatMap(one => one.put),
      ...still.hold,
      ...each.map(({ swap }) => swap),
      ...still.release,
      ...checks(false),
    ],
    undo:
      intent.on_failure === 'stop'
        ? []
        : undo.map(one => ({ ...one, ifBegan: `swap ${shortName(databases[0] ?? '')}` })),
    cleanup: [
      ...each.map(one => one.clear),
      planRemoval('clear away', scratch, site.backups.records, 'unpack'),
      ...still.cleanup.map(one => ({ ...one, unlessBegan: still.release[0]?.name ?? '' })),
    ],
  };
}
