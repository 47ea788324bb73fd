import { CannotPlan } from '../../plan/failure.ts';
import type { Look, Plan, Start, Step } from '../../plan/plan.ts';
import { databaseExecutor } from '../backup/database-executor.ts';
import { onServer } from '../backup/database-server.ts';
import {
  changesOf,
  checkTarget,
  clearPartial,
  findContainer,
  findRunning,
  pruneOf,
  readBack,
  shelfOf,
  summaryOf,
  timesOf,
} from '../backup/group.ts';
import { holdStill } from '../backup/quiesce.ts';
import type { Context, Intent, Site } from '../executor.ts';
import {
  check,
  clear,
  findPlex,
  inThrowAway,
  type Plex,
  PREFERENCES,
  shortly,
  step,
  type Times,
  unpack,
} from './archive.ts';
import { planDrill } from './drill.ts';
import { type PlexRestore, planRestore } from './restore.ts';

type PlexBackup = Extract<Intent, { action: 'backup'; database_type: 'plex' }>;

/** Plex's databases, by its own SQLite. */
export const plex = databaseExecutor<PlexBackup, PlexRestore>({
  kind: 'plex',
  types: ['plex'],
  locks: intent => `plex ${intent.action === 'backup' ? intent.source_container : intent.to_container}`,
  backup: planBackup,
  restore: planRestore,
  drill: planDrill,
});

/** `destination_path` alone is a folder of the host. */
function targetOf({ destination, destination_container, destination_path }: PlexBackup) {
  if (destination !== undefined || destination_container !== undefined)
    return { destination, destination_container, destination_path };
  return { destination: destination_path };
}

async function planBackup(intent: PlexBackup, context: Context, look: Look): Promise<Plan> {
  const { site, run, at } = context;
  const { source_container: name, method = 'online', compress = 'zstd' } = intent;
  const container = await (method === 'online' ? findRunning : findContainer)(name, look);
  const found = await findPlex(container, name, intent.source_path, site, look);
  if (!found) {
    throw new CannotPlan(
      'source-missing',
      `The container ${name} has no Plex library${intent.source_path === undefined ? ' where the usual images have it' : ` in ${intent.source_path}`}.`,
      'Name the folder of com.plexapp.plugins.library.db inside the container as source_path.',
    );
  }
  const ending = compress === 'gzip' ? 'gz' : 'zst';
  const wanted = { ...intent, ...targetOf(intent) };
  const shelf = await shelfOf(wanted, context, look, stamp => `plex-${stamp}.tar.${ending}`);
  const { folder, last } = shelf;
  const times = timesOf(intent);
  const archive = `${folder}/${shelf.partial}`;
  const staging = `${folder}/.staging.partial.${run}`;
  const scratch = `${folder}/.check.partial.${run}`;
  const still = await holdStill(
    { ...intent, consistency: method === 'stop' ? 'stop' : 'live' },
    { container: name },
    site,
    look,
  );
  const taking = method === 'stop' ? stopped(found, staging, site, times) : online(found, run, staging, site, times);
  const parts = [...found.databases, ...(found.home === undefined ? [] : [PREFERENCES])];
  return {
    title: `backup of Plex in ${name} to ${folder}`,
    summary: summaryOf(shelf),
    changes: changesOf(shelf, wanted, at),
    steps: [
      // The copies, the archive, and the copies again when they are checked.
      checkTarget(shelf, (last?.bytes ?? 0) * 8, `/${staging.slice(folder.length + 1)}`),
      ...still.hold,
      ...taking.steps,
      ...still.release,
      step(
        'pack',
        ['tar', '--create', `--${compress}`, '--numeric-owner', '--file', archive, '--directory', staging, ...parts],
        times,
        { reasons: [{ says: 'No space left', code: 'destination-full', remedy: 'Make room at the destination.' }] },
      ),
      unpack(archive, scratch, times),
      ...check(found, scratch, site, times),
      readBack(shelf, context, intent, {
        kind: 'plex',
        source: `${name}:${found.folder}`,
        checks: ['unpacked', 'integrity_check by Plex SQLite', 'it holds tables', 'sha256'],
        image: found.image,
        file: found.program,
        parts,
      }),
      pruneOf(shelf, wanted),
    ],
    undo: [],
    cleanup: [
      clearPartial(shelf, 'pack'),
      ...taking.cleanup,
      ...still.cleanup,
      clear('clear the copies away', staging, folder, 'check the destination'),
      clear('clear what was unpacked away', scratch, folder, 'unpack'),
    ],
  };
}

/** While Plex runs: a copy of one state, made inside by its own SQLite in one read transaction, and taken out. */
function online(
  found: Plex,
  run: string,
  staging: string,
  site: Site,
  times: Times,
): { steps: Step[]; cleanup: Step[] } {
  const { container: at, folder, program, databases, home } = found;
  const inside = `${folder}/.chatops-${run}`;
  const failure = { code: 'copy-failed', remedy: 'Read the step’s output. The earlier backups are untouched.' };
  const call = (name: string, argv: [string, ...string[]], more: Partial<Start> = {}) =>
    onServer(name, argv, { at, password: undefined }, '', site, { ...times, failure, repeatable: true, ...more });
  return {
    steps: [
      call('make room inside', ['mkdir', '-p', inside]),
      ...databases.map(database =>
        call(`copy ${shortly(database)}`, [
          program,
          ...['-bail', '-readonly', `${folder}/${database}`, '.timeout 30000', 'BEGIN;'],
          // The transaction holds one state still: without it the copy begins anew with each of Plex's commits.
          ...['SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${inside}/${database}'`, 'COMMIT;'],
        ]),
      ),
      ...(home === undefined ? [] : [call('copy preferences', ['cp', `${home}/${PREFERENCES}`, `${inside}/`])]),
      step('take out', [site.docker, 'cp', `${at}:${inside}/.`, staging], times),
    ],
    cleanup: [{ ...call('clear away inside', ['rm', '-r', '-f', inside]), ifBegan: 'make room inside' }],
  };
}

/** While Plex is stopped: the files, and what is still in their logs is written into the copies. */
function stopped(found: Plex, staging: string, site: Site, times: Times): { steps: Step[]; cleanup: Step[] } {
  const { container: at, folder, databases, home } = found;
  const take = (name: string, path: string, more: Partial<Start> = {}) =>
    step(name, [site.docker, 'cp', `${at}:${path}`, `${staging}/`], times, more);
  return {
    steps: [
      ...databases.flatMap(database => [
        take(`take ${shortly(database)}`, `${folder}/${database}`),
        // 1: there is no log, as after a clean end.
        take(`take the log of ${shortly(database)}`, `${folder}/${database}-wal`, { okCodes: [0, 1] }),
        inThrowAway(
          `write back the log of ${shortly(database)}`,
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
