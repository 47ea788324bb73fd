import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep, Step } from '../../plan/plan.ts';
import { planBackupCheck, SHORT_TIMEOUT } from '../backup/database-server.ts';
import { findBackup, parseTimeouts, timestampOf } from '../backup/group.ts';
import { planQuiesce, planRestartChecks } from '../backup/quiesce.ts';
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
 * A database can't be renamed here: what is there is dumped first, then the backup is loaded in its place. Throws Failure:
 * `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-stopped`, `program-missing`.
 */
export async function planRestore(intent: MysqlRestore, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of.name}`;
  const backup = await findBackup({ name: intent.of.name, at: intent.at }, folder, ['mysql'], look);
  const server = await findMysql({ source_container: intent.to_container, user: intent.user }, site, look);
  if (intent.confirm_overwrite !== true) {
    throw new Failure(
      'overwrite-unconfirmed',
      'A dump is loaded over the database of its name. Nothing was changed.',
      'Say confirm_overwrite: true in the intent; what is there is dumped first and kept.',
    );
  }
  const { program } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, look);
  const client = program === 'mariadb-dump' ? 'mariadb' : 'mysql';
  const sandbox = await findSandboxOption(server, client, site, look);
  const database = backup.database ?? intent.of.name;
  const scratch = `${site.backups.records}/restore-${run}`;
  const dump = `${scratch}/dump.sql`;
  const before = `${folder}/before-${timestampOf(at)}.sql`;
  const times = parseTimeouts(intent);
  const failure = { code: 'restore-failed', remedy: 'Read the step’s output.' };
  const call = createServerCall(server, site, times, failure);
  const empty = (name: string) =>
    call(name, [client, ...mysqlConnectionArgs(server), '--execute', `DROP DATABASE IF EXISTS \`${database}\``], {
      ...SHORT_TIMEOUT,
      repeatable: true,
      changes: true,
    });
  const load = (name: string, from: string): StartStep =>
    call(name, [client, ...sandbox, ...mysqlConnectionArgs(server), '--default-character-set=utf8mb4'], {
      stdinFrom: from,
      changes: true,
    });
  const still = await planQuiesce({ ...intent, consistency: 'stop' }, {}, site, look);
  const checks = planRestartChecks(intent, still, site);
  const undo: Step[] = [
    ...still.hold.map(step => ({ ...step, name: `${step.name} again` })),
    empty('empty again'),
    load('load what was there', before),
    ...still.release.map(step => ({ ...step, name: `${step.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${intent.of.name} (${backup.name}) to the database ${database} in ${server.name}`,
    summary: `${backup.bytes} bytes of ${backup.at}; what is there now is kept as ${before}.`,
    changes: [{ subject: `${server.name}/${database}`, change: 'write', details: [backup.name] }],
    steps: [
      planBackupCheck(folder, backup.name),
      planDumpUnpack(`${folder}/${backup.name}/${backup.file}`, dump, times),
      ...still.hold,
      // Where there is none yet, an empty one is kept.
      call(
        'make it',
        [client, ...mysqlConnectionArgs(server), '--execute', `CREATE DATABASE IF NOT EXISTS \`${database}\``],
        {
          ...SHORT_TIMEOUT,
          repeatable: true,
        },
      ),
      planMysqlDump('keep what is there', database, before, program, server, call),
      empty('empty'),
      load('load', dump),
      ...still.release,
      ...checks(false),
    ],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: 'empty' })),
    cleanup: [
      { do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'unpack' },
      ...still.cleanup.map(step => ({ ...step, unlessBegan: still.release[0]?.name ?? '' })),
    ],
  };
}
