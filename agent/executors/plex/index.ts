import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planServerCall } from '../backup/database-server.ts';
import { planDump } from '../backup/dump.ts';
import { findBackupGroup, findContainer, findRunning, parseTimeouts, type StepTimeouts } from '../backup/group.ts';
import { DISK_FULL, planScratchCheck, writesTo } from '../backup/opened.ts';
import { planQuiesce } from '../backup/quiesce.ts';
import type { Stage } from '../backup/stage.ts';
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
  shortName,
} from './archive.ts';
import { restorePlexByHand } from './by-hand.ts';
import { planPlexDrill } from './drill.ts';
import { type PlexRestore, planPlexRestore } from './restore.ts';

type PlexBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'plex' }>;

/** Plex's databases, by its own SQLite. */
export const plex = createDatabaseExecutor<PlexBackupIntent, PlexRestore>({
  kind: 'plex',
  types: ['plex'],
  locks: intent => `plex ${intent.action === 'backup' ? intent.source_container : intent.to_container}`,
  backup: planPlexBackup,
  restore: planPlexRestore,
  drill: planPlexDrill,
  restoreByHand: restorePlexByHand,
});

/** A `destination_path` without a container is a folder of the host. */
function toDestination({ destination, destination_container, destination_path }: PlexBackupIntent) {
  if (destination !== undefined || destination_container !== undefined)
    return { destination, destination_container, destination_path };
  return { destination: destination_path };
}

async function planPlexBackup(intent: PlexBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run } = context;
  const { source_container: name, method = 'online', compress = 'zstd' } = intent;
  const container = await (method === 'online' ? findRunning : findContainer)(name, host);
  const found = await findPlex(container, name, intent.source_path, site, host);
  if (!found) {
    throw new Failure(
      'source-missing',
      `The container ${name} has no Plex library${intent.source_path === undefined ? ' in the folder of the usual images' : ` in ${intent.source_path}`}.`,
      'Name the folder of com.plexapp.plugins.library.db inside the container as source_path.',
    );
  }
  const extension = compress === 'gzip' ? 'gz' : 'zst';
  const fields = { ...intent, ...toDestination(intent) };
  const group = await findBackupGroup(fields, context, host, stamp => `plex-${stamp}.tar.${extension}`);
  const { folder } = group;
  const times = parseTimeouts(intent);
  const archive = `${folder}/${group.partial}`;
  // Docker is given the paths of the copies: at the destination they could become links.
  const { records } = site.backups;
  const copies = `${records}/copies-${run}`;
  const scratch = `${records}/check-${run}`;
  const room = planScratchCheck('check the space for copies', copies, (group.last?.bytes ?? 0) * 8, site);
  const consistency = method === 'stop' ? 'stop' : 'live';
  const services = await planQuiesce({ ...intent, consistency }, { container: name }, site, host);
  const parts = [...found.databases, ...(found.home === undefined ? [] : [PREFERENCES])];
  return planDump(fields, context, group, {
    source: `Plex in ${name}`,
    space: 1.1,
    room,
    services,
    dump:
      method === 'stop' ? planStoppedCopy(found, copies, site, times) : planOnlineCopy(found, run, copies, site, times),
    check: {
      steps: [
        plexStep(
          'pack',
          ['tar', '--create', `--${compress}`, '--numeric-owner', '--file', '-', '--directory', copies, ...parts],
          times,
          { ...writesTo(archive, site), reasons: [DISK_FULL] },
        ),
        planUnpack(archive, scratch, site, times),
        ...planDatabaseChecks(found, scratch, site, times),
      ],
      cleanup: [
        planRemoval('clear the copies away', copies, records, room.name),
        planRemoval('clear what was unpacked away', scratch, records, 'unpack'),
      ],
    },
    partialFrom: 'pack',
    manifest: {
      kind: 'plex',
      source: `${name}:${found.folder}`,
      checks: ['unpacked', 'integrity_check by Plex SQLite', 'it holds tables', 'sha256'],
      image: found.image,
      file: found.program,
      parts,
    },
  });
}

/** Copies the databases while Plex runs: inside the container, by Plex's SQLite, in one read transaction each. */
function planOnlineCopy(found: PlexInstall, run: string, copies: string, site: HostSite, times: StepTimeouts): Stage {
  const { container: at, folder, program, databases, home } = found;
  const subfolder = `${folder}/.chatops-${run}`;
  const failure = { code: 'copy-failed', remedy: 'Read the step’s output. No earlier backup was changed.' };
  const call = (name: string, argv: [string, ...string[]], more: Partial<StartStep> = {}) =>
    planServerCall(name, argv, { at, password: undefined }, '', site, { ...times, failure, repeatable: true, ...more });
  return {
    steps: [
      call('make room inside', ['mkdir', '-p', subfolder]),
      ...databases.map(database =>
        call(`copy ${shortName(database)}`, [
          program,
          ...['-bail', '-readonly', `${folder}/${database}`, '.timeout 30000', 'BEGIN;'],
          // Without the transaction SQLite starts the copy again after each of Plex's commits.
          ...['SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${subfolder}/${database}'`, 'COMMIT;'],
        ]),
      ),
      ...(home === undefined ? [] : [call('copy preferences', ['cp', `${home}/${PREFERENCES}`, `${subfolder}/`])]),
      plexStep('take out', [site.docker, 'cp', `${at}:${subfolder}/.`, copies], times),
    ],
    cleanup: [{ ...call('clear away inside', ['rm', '-r', '-f', subfolder]), ifBegan: 'make room inside' }],
  };
}

/** Copies the files while Plex is stopped, and writes the changes that are still in their logs into the copies. */
function planStoppedCopy(found: PlexInstall, copies: string, site: HostSite, times: StepTimeouts): Stage {
  const { container: at, folder, databases, home } = found;
  const take = (name: string, path: string, more: Partial<StartStep> = {}) =>
    plexStep(name, [site.docker, 'cp', `${at}:${path}`, `${copies}/`], times, more);
  return {
    steps: [
      ...databases.flatMap(database => [
        take(`take ${shortName(database)}`, `${folder}/${database}`),
        // Exit code 1: Plex was stopped cleanly and left no log.
        take(`take the log of ${shortName(database)}`, `${folder}/${database}-wal`, { okCodes: [0, 1] }),
        planInScratchContainer(
          `write back the log of ${shortName(database)}`,
          found,
          copies,
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
