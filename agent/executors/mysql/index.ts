import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import {
  findBackupGroup,
  listBackupChanges,
  parseTimeouts,
  planPartialCleanup,
  planPrune,
  planReadBack,
  planTargetCheck,
  summarizeGroup,
} from '../backup/group.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planDrill, planMysqlDrillSteps } from './drill.ts';
import { type MysqlRestore, planRestore } from './restore.ts';
import { createServerCall, findMysql, findProgram, planMysqlDump, planPack } from './server.ts';

type MysqlBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'mysql' | 'mariadb' }>;

/** MySQL and MariaDB databases, by the server's own programs. */
export const mysql = createDatabaseExecutor<MysqlBackupIntent, MysqlRestore>({
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

async function planBackup(intent: MysqlBackupIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, at, run } = context;
  const server = await findMysql(intent, site, look);
  const { program, version } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, look);
  const shelf = await findBackupGroup(intent, context, look);
  const { folder, partial, last } = shelf;
  const { database, compress = 'zstd' } = intent;
  const times = parseTimeouts(intent);
  const dump = `${folder}/${partial}/${database}.sql`;
  const { file, pack } = planPack(dump, compress, times);
  const call = createServerCall(server, site, times);
  const drilling: { steps: StartStep[]; cleanup: StartStep[] } =
    intent.verify_level === 'drill' && server.container
      ? planMysqlDrillSteps(run, server.container.Image, dump, site, times, version)
      : { steps: [], cleanup: [] };
  return {
    title: `backup of the database ${database} in ${server.name} to ${folder}`,
    summary: summarizeGroup(shelf),
    changes: listBackupChanges(shelf, intent, at),
    steps: [
      planTargetCheck(shelf, (last?.bytes ?? 0) * (compress === '0' ? 1.1 : 8), `/${partial}`),
      planMysqlDump('dump', database, dump, program, server, call),
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
      planReadBack(shelf, context, intent, {
        kind: 'mysql',
        source: `${server.name}/${database}`,
        ...{ file, database },
        checks: ['exit code and last line', 'sha256', ...drilling.steps.slice(0, 1).map(() => 'loaded and counted')],
        versions: { [program]: version },
        ...(server.container ? { image: server.container.Image } : {}),
      }),
      planPrune(shelf, intent),
    ],
    undo: [],
    cleanup: [...drilling.cleanup, planPartialCleanup(shelf, 'check the destination')],
  };
}
