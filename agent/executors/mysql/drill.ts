import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { planBackupCheck, planScratchContainer } from '../backup/database-server.ts';
import { findBackup, parseTimeouts } from '../backup/group.ts';
import { type HostSite, type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { createServerCall, planDumpUnpack } from './server.ts';

export type MysqlDrill = Extract<Intent, { action: 'drill' }>;

const COUNT =
  "SELECT CONCAT('tables: ', COUNT(*)) FROM information_schema.tables WHERE table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')";

/** Loads a dump into a throw-away server of that image, and counts. `version`: of a program of that server. */
export function planMysqlDrillSteps(
  run: string,
  image: string,
  dump: string,
  site: HostSite,
  times: ReturnType<typeof parseTimeouts>,
  version: string,
): { steps: StartStep[]; cleanup: StartStep[] } {
  const isMariadb = /maria/i.test(version);
  const client = isMariadb ? 'mariadb' : 'mysql';
  const server = planScratchContainer(run, image, site, {
    tmpfs: '/var/lib/mysql',
    env: ['MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1', 'MYSQL_ALLOW_EMPTY_PASSWORD=1'],
    // The images' first start has a server of its own on the socket only: the real one is the one on the address.
    ready: [
      `${client}-admin`.replace('mysql-admin', 'mysqladmin'),
      '--host=127.0.0.1',
      '--user=root',
      '--connect-timeout=5',
      'ping',
    ],
    waiting: ["Can't connect", 'failed', 'Lost connection'],
  });
  const failure = { code: 'drill-failed', remedy: 'The dump can’t be loaded: read the step’s output.' };
  const call = createServerCall({ at: server.name, password: undefined }, site, times, failure);
  const as = ['--host=127.0.0.1', '--user=root'];
  return {
    steps: [
      ...(server.steps as StartStep[]),
      call('load', [client, ...as, '--default-character-set=utf8mb4'], { stdinFrom: dump }),
      call('count', [client, ...as, '--skip-column-names', '--batch', '--execute', COUNT], {
        mustSay: ['tables: '],
        mustNotSay: ['tables: 0\n'],
      }),
    ],
    cleanup: server.cleanup as StartStep[],
  };
}

/** Throws Failure: `backup-unknown`, `image-gone`. */
export async function planDrill(intent: MysqlDrill, { site, run, at }: PlanContext, look: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['mysql'], look);
  if (backup.image === undefined && backup.run !== '') {
    throw new Failure(
      'image-gone',
      `The backup ${backup.name} does not say with which image it was made: its server ran on the host itself.`,
      'Restore it into a server by hand, see RESTORE.md beside it.',
    );
  }
  const times = parseTimeouts(intent);
  const scratch = `${site.backups.records}/drill-${run}`;
  const dump = `${scratch}/dump.sql`;
  const version = Object.entries(backup.versions ?? {})
    .flat()
    .join(' ');
  const drill = planMysqlDrillSteps(run, backup.image ?? '(its image)', dump, site, times, version);
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Loaded into a throw-away server without network: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      planBackupCheck(folder, backup.name),
      planDumpUnpack(`${folder}/${backup.name}/${backup.file}`, dump, times),
      ...drill.steps,
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [
      ...drill.cleanup,
      { do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'unpack' },
    ],
  };
}
