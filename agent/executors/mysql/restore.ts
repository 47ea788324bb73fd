import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { SHORT_TIMEOUT } from '../backup/database-server.ts';
import { timestampOf } from '../backup/group.ts';
import { readsFrom, writesTo } from '../backup/opened.ts';
import { planRestore } from '../backup/restore.ts';
import type { Intent, PlanContext } from '../executor.ts';
import {
  createServerCall,
  findMysql,
  findProgram,
  findSandboxOption,
  mysqlConnectionArgs,
  planDumpUnpack,
  planMysqlDump,
} from './server.ts';

export type MysqlRestore = Extract<Intent, { action: 'restore'; of: { kind: 'mysql' } }>;

/**
 * MySQL can't rename a database: the current one is dumped first, then the backup is loaded in its place. Throws Failure:
 * `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-stopped`, `program-missing`.
 */
export function planMysqlRestore(intent: MysqlRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  return planRestore(intent, context, host, {
    kind: 'mysql',
    async find() {
      const server = await findMysql({ source_container: intent.to_container, user: intent.user }, site, host);
      const overwrites = {
        message: 'The restore would replace the database. Nothing was changed.',
        remedy: 'Set confirm_overwrite: true in the intent. The agent dumps and keeps the current data first.',
      };
      return { server, overwrites };
    },
    async plan({ server }, { backup, folder, path }, times) {
      const { program } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, host);
      const client = program === 'mariadb-dump' ? 'mariadb' : 'mysql';
      const sandbox = await findSandboxOption(server, client, site, host);
      const database = backup.database ?? intent.of.name;
      const scratch = `${site.backups.records}/restore-${run}`;
      const dump = `${scratch}/dump.sql`;
      const before = `${folder}/before-${timestampOf(at)}.sql`;
      const failure = { code: 'restore-failed', remedy: 'Read the step’s output.' };
      const call = createServerCall(server, site, times, failure);
      const as = mysqlConnectionArgs(server);
      const execute = (name: string, statement: string, more: Partial<StartStep> = {}) =>
        call(name, [client, ...as, '--execute', statement], { ...SHORT_TIMEOUT, repeatable: true, ...more });
      const empty = (name: string) => execute(name, `DROP DATABASE IF EXISTS \`${database}\``, { changes: true });
      const load = (name: string, from: string): StartStep =>
        call(name, [client, ...sandbox, ...as, '--default-character-set=utf8mb4'], {
          ...readsFrom(from, site),
          changes: true,
        });
      return {
        target: `the database ${database} in ${server.name}`,
        subject: `${server.name}/${database}`,
        kept: `the current data is kept as ${before}`,
        prepare: [planDumpUnpack(`${path}/${backup.file}`, dump, site, times)],
        swap: [
          // If there is no database yet, the dump of an empty one is kept.
          execute('make it', `CREATE DATABASE IF NOT EXISTS \`${database}\``),
          planMysqlDump('keep what is there', database, writesTo(before, site), program, server, call),
          empty('empty'),
          load('load', dump),
        ],
        changesFrom: 'empty',
        rollback: [empty('empty again'), load('load what was there', before)],
        cleanup: [{ do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'unpack' }],
      };
    },
  });
}
