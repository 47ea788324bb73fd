import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { planServerCall, SHORT_TIMEOUT } from '../backup/database-server.ts';
import { readsFrom } from '../backup/opened.ts';
import { planRestore } from '../backup/restore.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { COUNT_QUERY } from './drill.ts';
import { findPostgres, PASSWORD_VARIABLE } from './server.ts';

export type PostgresRestore = Extract<Intent, { action: 'restore'; of: { kind: 'postgres' } }>;

/** Leaves room for the suffix: PostgreSQL cuts names of more than 63 bytes. */
const MAX_NAME = 40;

/**
 * Loads the dump into a new database, which then takes the name; the current database is kept under another name. Throws
 * Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-stopped`.
 */
export function planPostgresRestore(intent: PostgresRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run } = context;
  return planRestore(intent, context, host, {
    kind: 'postgres',
    async find({ backup }) {
      const server = await findPostgres({ source_container: intent.to_container, user: intent.user }, site, host);
      const database = intent.database ?? backup.database ?? intent.of.name;
      const as = ['--username', server.user, '--no-password'];
      const psql: [string, ...string[]] = [
        ...(['psql', '--no-psqlrc', '--tuples-only', '--no-align'] as const),
        ...[...as, '--set', 'ON_ERROR_STOP=1'],
      ];
      const list = ['--dbname', 'postgres', '--command', 'SELECT datname FROM pg_database'];
      const listed = await host.ask([site.docker, 'exec', server.at, ...psql, ...list]);
      const exists = listed?.stdout.split('\n').includes(database) === true;
      const overwrites = exists
        ? {
            message: `The database ${database} exists in ${server.name}. Nothing was changed.`,
            remedy:
              'Set confirm_overwrite: true in the intent (the current database is kept under another name), or name another database.',
          }
        : undefined;
      return { server, database, as, psql, overwrites };
    },
    plan({ server, database, as, psql, overwrites }, { backup, path }, times) {
      const suffix = run.slice(0, 8);
      const next = `${database.slice(0, MAX_NAME)}_restore_${suffix}`;
      const aside = `${database.slice(0, MAX_NAME)}_before_${suffix}`;
      const failure = { code: 'restore-failed', remedy: `Read the step’s output. ${database} is unchanged.` };
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
            // Repeatable: an earlier agent may have renamed them already, without a record of it.
            `DO $$ BEGIN IF EXISTS (SELECT FROM pg_database WHERE datname = '${coming}') THEN IF EXISTS (SELECT FROM pg_database WHERE datname = '${database}') THEN ALTER DATABASE "${database}" RENAME TO "${leaving}"; END IF; ALTER DATABASE "${coming}" RENAME TO "${database}"; END IF; END $$`,
          ],
          { changes: true },
        );
      return {
        target: `the database ${database} in ${server.name}`,
        subject: `${server.name}/${database}`,
        kept: overwrites ? `the current database is kept as ${aside}` : '',
        prepare: [
          call('make a database', ['createdb', ...as, '--template=template0', '--', next], SHORT_TIMEOUT),
          call('load', ['pg_restore', ...as, '--exit-on-error', '--dbname', next], {
            ...readsFrom(`${path}/${backup.file}`, site),
            reasons: [
              {
                says: 'role "',
                code: 'restore-failed',
                remedy: `Create the missing role on this server first, from globals.sql next to the dump. ${database} is unchanged.`,
              },
            ],
          }),
          call('count', [...psql, '--dbname', next, '--command', COUNT_QUERY], {
            ...SHORT_TIMEOUT,
            mustSay: ['tables: '],
            mustNotSay: ['tables: 0\n'],
          }),
        ],
        swap: [exchange('swap', next, aside)],
        changesFrom: 'swap',
        rollback: [
          overwrites
            ? exchange('swap back', aside, next)
            : sql('swap back', [`ALTER DATABASE "${database}" RENAME TO "${next}"`]),
        ],
        cleanup: [
          call('clear away', ['dropdb', '--if-exists', '--force', ...as, '--', next], {
            ...SHORT_TIMEOUT,
            ifBegan: 'make a database',
          }),
        ],
      };
    },
  });
}
