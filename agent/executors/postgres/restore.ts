import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep, Step } from '../../plan/plan.ts';
import { planBackupCheck, planServerCall, SHORT_TIMEOUT } from '../backup/database-server.ts';
import { findBackup, parseTimeouts } from '../backup/group.ts';
import { planQuiesce, planRestartChecks } from '../backup/quiesce.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { COUNT_QUERY } from './drill.ts';
import { findPostgres, PASSWORD_VARIABLE } from './server.ts';

export type PostgresRestore = Extract<Intent, { action: 'restore'; of: { kind: 'postgres' } }>;

/** PostgreSQL cuts longer names. */
const LONGEST = 40;

/**
 * The dump is loaded into a new database, which then takes the name; the one that had it is kept under another. Throws
 * Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-stopped`.
 */
export async function planRestore(intent: PostgresRestore, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, run } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of.name}`;
  const backup = await findBackup({ name: intent.of.name, at: intent.at }, folder, ['postgres'], look);
  const wish = { source_container: intent.to_container, user: intent.user };
  const server = await findPostgres(wish, site, look);
  const database = intent.database ?? backup.database ?? intent.of.name;
  const as = ['--username', server.user, '--no-password'];
  const psql: [string, ...string[]] = [
    'psql',
    '--no-psqlrc',
    '--tuples-only',
    '--no-align',
    ...as,
    '--set',
    'ON_ERROR_STOP=1',
  ];
  const listed = await look.ask([
    site.docker,
    'exec',
    server.at,
    ...psql,
    '--dbname',
    'postgres',
    '--command',
    'SELECT datname FROM pg_database',
  ]);
  const isThere = listed?.stdout.split('\n').includes(database) === true;
  if (isThere && intent.confirm_overwrite !== true) {
    throw new Failure(
      'overwrite-unconfirmed',
      `The database ${database} is there in ${server.name}. Nothing was changed.`,
      'Say confirm_overwrite: true in the intent (what is there is kept under another name), or name another database.',
    );
  }
  const suffix = run.slice(0, 8);
  const next = `${database.slice(0, LONGEST)}_restore_${suffix}`;
  const aside = `${database.slice(0, LONGEST)}_before_${suffix}`;
  const times = parseTimeouts(intent);
  const failure = { code: 'restore-failed', remedy: `Read the step’s output. ${database} is as it was.` };
  const call = (name: string, argv: [string, ...string[]], more: Partial<StartStep> = {}) =>
    planServerCall(name, argv, server, PASSWORD_VARIABLE, site, { ...times, failure, ...more });
  const sql = (name: string, commands: string[], more: Partial<StartStep> = {}) =>
    call(
      name,
      [...psql, '--dbname', 'postgres', '--single-transaction', ...commands.flatMap(one => ['--command', one])],
      { ...SHORT_TIMEOUT, repeatable: true, ...more },
    );
  const exchange = (name: string, coming: string, leaving: string) =>
    sql(
      name,
      [
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('${database}', '${coming}') AND pid <> pg_backend_pid()`,
        // Done where it has been done already: an agent that ended meanwhile can't tell.
        `DO $$ BEGIN IF EXISTS (SELECT FROM pg_database WHERE datname = '${coming}') THEN IF EXISTS (SELECT FROM pg_database WHERE datname = '${database}') THEN ALTER DATABASE "${database}" RENAME TO "${leaving}"; END IF; ALTER DATABASE "${coming}" RENAME TO "${database}"; END IF; END $$`,
      ],
      { changes: true },
    );
  const still = await planQuiesce({ ...intent, consistency: 'stop' }, {}, site, look);
  const checks = planRestartChecks(intent, still, site);
  const undo: Step[] = [
    ...still.hold.map(step => ({ ...step, name: `${step.name} again` })),
    ...(isThere
      ? [exchange('swap back', aside, next)]
      : [sql('swap back', [`ALTER DATABASE "${database}" RENAME TO "${next}"`])]),
    ...still.release.map(step => ({ ...step, name: `${step.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${intent.of.name} (${backup.name}) to the database ${database} in ${server.name}`,
    summary: `${backup.bytes} bytes of ${backup.at}${isThere ? `; the database that is there now is kept as ${aside}` : ''}.`,
    changes: [{ subject: `${server.name}/${database}`, change: 'write', details: [backup.name] }],
    steps: [
      planBackupCheck(folder, backup.name),
      call('make a database', ['createdb', ...as, '--template=template0', '--', next], SHORT_TIMEOUT),
      call('load', ['pg_restore', ...as, '--exit-on-error', '--dbname', next], {
        stdinFrom: `${folder}/${backup.name}/${backup.file}`,
        reasons: [
          {
            says: 'role "',
            code: 'restore-failed',
            remedy: `A role is missing on this server: make it first, see globals.sql beside the dump. ${database} is as it was.`,
          },
        ],
      }),
      call('count', [...psql, '--dbname', next, '--command', COUNT_QUERY], {
        ...SHORT_TIMEOUT,
        mustSay: ['tables: '],
        mustNotSay: ['tables: 0\n'],
      }),
      ...still.hold,
      exchange('swap', next, aside),
      ...still.release,
      ...checks(false),
    ],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: 'swap' })),
    cleanup: [
      call('clear away', ['dropdb', '--if-exists', '--force', ...as, '--', next], {
        ...SHORT_TIMEOUT,
        ifBegan: 'make a database',
      }),
      ...still.cleanup.map(step => ({ ...step, unlessBegan: still.release[0]?.name ?? '' })),
    ],
  };
}
