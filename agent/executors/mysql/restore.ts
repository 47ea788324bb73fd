import { CannotPlan } from '../../plan/failure.ts';
import type { Look, Plan, Start, Step } from '../../plan/plan.ts';
import { checkBackup, SHORT } from '../backup/database-server.ts';
import { findBackup, stampOf, timesOf } from '../backup/group.ts';
import { holdStill, startedAgain } from '../backup/quiesce.ts';
import type { Context, Intent } from '../executor.ts';
import { callAt, connection, dumpOf, findMysql, findProgram, sandboxOf, unpacked } from './server.ts';

export type MysqlRestore = Extract<Intent, { action: 'restore'; of: { kind: 'mysql' } }>;

/**
 * A database can't be renamed here: what is there is dumped first, then the backup is loaded in its place. Throws CannotPlan:
 * `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-stopped`, `program-missing`.
 */
export async function planRestore(intent: MysqlRestore, context: Context, look: Look): Promise<Plan> {
  const { site, run, at } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of.name}`;
  const backup = await findBackup({ name: intent.of.name, at: intent.at }, folder, ['mysql'], look);
  const server = await findMysql({ source_container: intent.to_container, user: intent.user }, site, look);
  if (intent.confirm_overwrite !== true) {
    throw new CannotPlan(
      'overwrite-unconfirmed',
      'A dump is loaded over the database of its name. Nothing was changed.',
      'Say confirm_overwrite: true in the intent; what is there is dumped first and kept.',
    );
  }
  const { program } = await findProgram(server, ['mariadb-dump', 'mysqldump'], site, look);
  const client = program === 'mariadb-dump' ? 'mariadb' : 'mysql';
  const sandbox = await sandboxOf(server, client, site, look);
  const database = backup.database ?? intent.of.name;
  const scratch = `${site.backups.records}/restore-${run}`;
  const dump = `${scratch}/dump.sql`;
  const before = `${folder}/before-${stampOf(at)}.sql`;
  const times = timesOf(intent);
  const failure = { code: 'restore-failed', remedy: 'Read the step’s output.' };
  const call = callAt(server, site, times, failure);
  const empty = (name: string) =>
    call(name, [client, ...connection(server), '--execute', `DROP DATABASE IF EXISTS \`${database}\``], {
      ...SHORT,
      repeatable: true,
      changes: true,
    });
  const load = (name: string, from: string): Start =>
    call(name, [client, ...sandbox, ...connection(server), '--default-character-set=utf8mb4'], {
      stdinFrom: from,
      changes: true,
    });
  const still = await holdStill({ ...intent, consistency: 'stop' }, {}, site, look);
  const checks = startedAgain(intent, still, site);
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
      checkBackup(folder, backup.name),
      unpacked(`${folder}/${backup.name}/${backup.file}`, dump, times),
      ...still.hold,
      // Where there is none yet, an empty one is kept.
      call('make it', [client, ...connection(server), '--execute', `CREATE DATABASE IF NOT EXISTS \`${database}\``], {
        ...SHORT,
        repeatable: true,
      }),
      dumpOf('keep what is there', database, before, program, server, call),
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
