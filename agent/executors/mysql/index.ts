import type { Look, Plan, Start } from '../../plan/plan.ts';
import { databaseExecutor } from '../backup/database-executor.ts';
import {
  changesOf,
  checkTarget,
  clearPartial,
  pruneOf,
  readBack,
  shelfOf,
  summaryOf,
  timesOf,
} from '../backup/group.ts';
import type { Context, Intent } from '../executor.ts';
import { drillSteps, planDrill } from './drill.ts';
import { type MysqlRestore, planRestore } from './restore.ts';
import { callAt, dumpOf, findMysql, findProgram, packed } from './server.ts';

type MysqlBackup = Extract<Intent, { action: 'backup'; database_type: 'mysql' | 'mariadb' }>;

/** MySQL and MariaDB databases, by the server's own programs. */
export const mysql = databaseExecutor<MysqlBackup, MysqlRestore>({
  kind: 'mysql',
  types: ['mysql', 'mariadb'],
  locks: intent =>
    intent.action === 'backup'
      ? `database ${intent.source_container ?? intent.source}/${intent.database}`
      : `server ${intent.to_container}`,
  backup: planBackup,
  restore: planRestore,
  drill: planDrill,
});

async function planBackup(intent: MysqlBackup, context: Context, look: Look): Promise<Plan> {
  const { site, at, run } = context;
  const server = await findMysql(intent, site, look);
  const { program, version } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, look);
  const shelf = await shelfOf(intent, context, look);
  const { folder, partial, last } = shelf;
  const { database, compress = 'zstd' } = intent;
  const times = timesOf(intent);
  const dump = `${folder}/${partial}/${database}.sql`;
  const { file, pack } = packed(dump, compress, times);
  const call = callAt(server, site, times);
  const drilling: { steps: Start[]; cleanup: Start[] } =
    intent.verify_level === 'drill' && server.container
      ? drillSteps(run, server.container.Image, dump, site, times, version)
      : { steps: [], cleanup: [] };
  return {
    title: `backup of the database ${database} in ${server.name} to ${folder}`,
    summary: summaryOf(shelf),
    changes: changesOf(shelf, intent, at),
    steps: [
      checkTarget(shelf, (last?.bytes ?? 0) * (compress === '0' ? 1.1 : 8), `/${partial}`),
      dumpOf('dump', database, dump, program, server, call),
      {
        do: 'expect-ending',
        name: 'check',
        path: dump,
        // With the exit code: a dump that has lost a view says this too.
        text: '-- Dump completed',
        failure: { code: 'backup-broken', remedy: 'The dump is cut off: look at the destination’s room.' },
      },
      ...drilling.steps,
      ...pack,
      readBack(shelf, context, intent, {
        kind: 'mysql',
        source: `${server.name}/${database}`,
        ...{ file, database },
        checks: ['exit code and last line', 'sha256', ...drilling.steps.slice(0, 1).map(() => 'loaded and counted')],
        versions: { [program]: version },
        ...(server.container ? { image: server.container.Image } : {}),
      }),
      pruneOf(shelf, intent),
    ],
    undo: [],
    cleanup: [...drilling.cleanup, clearPartial(shelf, 'check the destination')],
  };
}
