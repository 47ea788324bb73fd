import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep, Step } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planServerCall } from '../backup/database-server.ts';
import {
  findBackupGroup,
  findContainer,
  findRunning,
  listBackupChanges,
  parseTimeouts,
  planPartialCleanup,
  planPrune,
  planReadBack,
  planTargetCheck,
  summarizeGroup,
} from '../backup/group.ts';
import { planQuiesce } from '../backup/quiesce.ts';
import type { HostSite, Intent, PlanContext } from '../executor.ts';
import {
  findPlex,
  type PlexInstall,
  PREFERENCES,
  planDatabaseChecks,
  planInScratchContainer,
  planRemoval,
  planUnpack,
  plexStep,
  type StepTimeouts,
  shortName,
} from './archive.ts';
import { planDrill } from './drill.ts';
import { type PlexRestore, planRestore } from './restore.ts';

type PlexBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'plex' }>;

/** Plex's databases, by its own SQLite. */
export const plex = createDatabaseExecutor<PlexBackupIntent, PlexRestore>({
  kind: 'plex',
  types: ['plex'],
  locks: intent => `plex ${intent.action === 'backup' ? intent.source_container : intent.to_container}`,
  backup: planBackup,
  restore: planRestore,
  drill: planDrill,
});

/** `destination_path` alone is a folder of the host. */
function toDestination({ destination, destination_container, destination_path }: PlexBackupIntent) {
  if (destination !== undefined || destination_container !== undefined)
    return { destination, destination_container, destination_path };
  return { destination: destination_path };
}

async function planBackup(intent: PlexBackupIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const { source_container: name, method = 'online', compress = 'zstd' } = intent;
  const container = await (method === 'online' ? findRunning : findContainer)(name, look);
  const found = await findPlex(container, name, intent.source_path, site, look);
  if (!found) {
    throw new Failure(
      'source-missing',
      `The container ${name} has no Plex library${intent.source_path === undefined ? ' where the usual images have it' : ` in ${intent.source_path}`}.`,
      'Name the folder of com.plexapp.plugins.library.db inside the container as source_path.',
    );
  }
  const ending = compress === 'gzip' ? 'gz' : 'zst';
  const wanted = { ...intent, ...toDestination(intent) };
  const shelf = await findBackupGroup(wanted, context, look, stamp => `plex-${stamp}.tar.${ending}`);
  const { folder, last } = shelf;
  const times = parseTimeouts(intent);
  const archive = `${folder}/${shelf.partial}`;
  const staging = `${folder}/.staging.partial.${run}`;
  const scratch = `${folder}/.check.partial.${run}`;
  const still = await planQuiesce(
    { ...intent, consistency: method === 'stop' ? 'stop' : 'live' },
    { container: name },
    site,
    look,
  );
  const taking =
    method === 'stop' ? planStoppedCopy(found, staging, site, times) : planOnlineCopy(found, run, staging, site, times);
  const parts = [...found.databases, ...(found.home === undefined ? [] : [PREFERENCES])];
  return {
    title: `backup of Plex in ${name} to ${folder}`,
    summary: summarizeGroup(shelf),
    changes: listBackupChanges(shelf, wanted, at),
    steps: [
      // The copies, the archive, and the copies again when they are checked.
      planTargetCheck(shelf, (last?.bytes ?? 0) * 8, `/${staging.slice(folder.length + 1)}`),
      ...still.hold,
      ...taking.steps,
      ...still.release,
      plexStep(
        'pack',
        ['tar', '--create', `--${compress}`, '--numeric-owner', '--file', archive, '--directory', staging, ...parts],
        times,
        { reasons: [{ says: 'No space left', code: 'destination-full', remedy: 'Make room at the destination.' }] },
      ),
      planUnpack(archive, scratch, times),
      ...planDatabaseChecks(found, scratch, site, times),
      planReadBack(shelf, context, intent, {
        kind: 'plex',
        source: `${name}:${found.folder}`,
        checks: ['unpacked', 'integrity_check by Plex SQLite', 'it holds tables', 'sha256'],
        image: found.image,
        file: found.program,
        parts,
      }),
      planPrune(shelf, wanted),
    ],
    undo: [],
    cleanup: [
      planPartialCleanup(shelf, 'pack'),
      ...taking.cleanup,
      ...still.cleanup,
      planRemoval('clear the copies away', staging, folder, 'check the destination'),
      planRemoval('clear what was unpacked away', scratch, folder, 'unpack'),
    ],
  };
}

/** While Plex runs: a copy of one state, made inside by its own SQLite in one read transaction, and taken out. */
function planOnlineCopy(
  found: PlexInstall,
  run: string,
  staging: string,
  site: HostSite,
  times: StepTimeouts,
): { steps: Step[]; cleanup: Step[] } {
  const { container: at, folder, program, databases, home } = found;
  const inside = `${folder}/.chatops-${run}`;
  const failure = { code: 'copy-failed', remedy: 'Read the step’s output. The earlier backups are untouched.' };
  const call = (name: string, argv: [string, ...string[]], more: Partial<StartStep> = {}) =>
    planServerCall(name, argv, { at, password: undefined }, '', site, { ...times, failure, repeatable: true, ...more });
  return {
    steps: [
      call('make room inside', ['mkdir', '-p', inside]),
      ...databases.map(database =>
        call(`copy ${shortName(database)}`, [
          program,
          ...['-bail', '-readonly', `${folder}/${database}`, '.timeout 30000', 'BEGIN;'],
          // The transaction holds one state still: without it the copy begins anew with each of Plex's commits.
          ...['SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${inside}/${database}'`, 'COMMIT;'],
        ]),
      ),
      ...(home === undefined ? [] : [call('copy preferences', ['cp', `${home}/${PREFERENCES}`, `${inside}/`])]),
      plexStep('take out', [site.docker, 'cp', `${at}:${inside}/.`, staging], times),
    ],
    cleanup: [{ ...call('clear away inside', ['rm', '-r', '-f', inside]), ifBegan: 'make room inside' }],
  };
}

/** While Plex is stopped: the files, and what is still in their logs is written into the copies. */
function planStoppedCopy(
  found: PlexInstall,
  staging: string,
  site: HostSite,
  times: StepTimeouts,
): { steps: Step[]; cleanup: Step[] } {
  const { container: at, folder, databases, home } = found;
  const take = (name: string, path: string, more: Partial<StartStep> = {}) =>
    plexStep(name, [site.docker, 'cp', `${at}:${path}`, `${staging}/`], times, more);
  return {
    steps: [
      ...databases.flatMap(database => [
        take(`take ${shortName(database)}`, `${folder}/${database}`),
        // 1: there is no log, as after a clean end.
        take(`take the log of ${shortName(database)}`, `${folder}/${database}-wal`, { okCodes: [0, 1] }),
        planInScratchContainer(
          `write back the log of ${shortName(database)}`,
          found,
          staging,
          [`/check/${database}`, 'PRAGMA wal_checkpoint(TRUNCATE);'],
          site,
          times,
          { writes: true },
        ),
      ]),
      ...(home === undefined ? [] : [take('take preferences', `${home}/${PREFERENCES}`)]),
    ],
    cleanup: [],
  };
}
