import type { HostReader, Plan } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planDump } from '../backup/dump.ts';
import { findBackupGroup, parseTimeouts } from '../backup/group.ts';
import { writesTo } from '../backup/opened.ts';
import { EMPTY_STAGE } from '../backup/stage.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { restoreMysqlByHand } from './by-hand.ts';
import { planMysqlDrill, planMysqlLoad } from './drill.ts';
import { type MysqlRestore, planMysqlRestore } from './restore.ts';
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
  backup: planMysqlBackup,
  restore: planMysqlRestore,
  drill: planMysqlDrill,
  restoreByHand: restoreMysqlByHand,
});

async function planMysqlBackup(intent: MysqlBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run } = context;
  const server = await findMysql(intent, site, host);
  const { program, version } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, host);
  const group = await findBackupGroup(intent, context, host);
  const { database, compress = 'zstd' } = intent;
  const times = parseTimeouts(intent);
  const dump = `${group.folder}/${group.partial}/${database}.sql`;
  const { file, pack } = planPack(dump, compress, site, times);
  const call = createServerCall(server, site, times);
  return planDump(intent, context, group, {
    source: `the database ${database} in ${server.name}`,
    // The dump is compressed after it was checked.
    space: compress === '0' ? 1.1 : 8,
    dump: { steps: [planMysqlDump('dump', database, writesTo(dump, site), program, server, call)], cleanup: [] },
    check: {
      steps: [
        {
          do: 'expect-ending',
          name: 'check',
          path: dump,
          root: group.root,
          // Not enough without the exit code: a dump that lacks a view ends with this line, too.
          text: '-- Dump completed',
          failure: {
            code: 'backup-broken',
            remedy: 'Check the free space of the destination: the dump is incomplete.',
          },
        },
      ],
      cleanup: [],
    },
    drill:
      intent.verify_level === 'drill' && server.container
        ? planMysqlLoad(run, server.container.Image, dump, site, times, version)
        : EMPTY_STAGE,
    pack,
    manifest: {
      kind: 'mysql',
      source: `${server.name}/${database}`,
      ...{ file, database },
      checks: ['exit code and last line', 'sha256'],
      versions: { [program]: version },
      ...(server.container ? { image: server.container.Image } : {}),
    },
  });
}
