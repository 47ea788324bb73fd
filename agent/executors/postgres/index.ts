import type { HostReader, Plan } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planServerCall, SHORT_TIMEOUT } from '../backup/database-server.ts';
import { planDump } from '../backup/dump.ts';
import { findBackupGroup, parseTimeouts } from '../backup/group.ts';
import { readsFrom, writesTo } from '../backup/opened.ts';
import { EMPTY_STAGE } from '../backup/stage.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { restorePostgresByHand } from './by-hand.ts';
import { planPostgresDrill, planPostgresLoad } from './drill.ts';
import { type PostgresRestore, planPostgresRestore } from './restore.ts';
import { findPostgres, hostArgs, OLD_CLIENT, PASSWORD_VARIABLE, readServerVersion } from './server.ts';

type PostgresBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'postgres' }>;

/** PostgreSQL databases, by the server's own programs. */
export const postgres = createDatabaseExecutor<PostgresBackupIntent, PostgresRestore>({
  kind: 'postgres',
  types: ['postgres'],
  locks: intent =>
    intent.action === 'backup'
      ? `database ${intent.source_container ?? intent.source}/${intent.database}`
      : `database ${intent.to_container}/${intent.database ?? intent.of.name}`,
  backup: planPostgresBackup,
  restore: planPostgresRestore,
  drill: planPostgresDrill,
  restoreByHand: restorePostgresByHand,
});

async function planPostgresBackup(intent: PostgresBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run } = context;
  const server = await findPostgres(intent, site, host);
  const group = await findBackupGroup(intent, context, host);
  const { database } = intent;
  const file = `${database}.dump`;
  const partial = `${group.folder}/${group.partial}`;
  const dump = `${partial}/${file}`;
  const times = parseTimeouts(intent);
  const failure = {
    code: 'dump-failed',
    remedy: 'Read the step’s output. No earlier backup was changed.',
  };
  const call = (name: string, argv: [string, ...string[]], more: object) =>
    planServerCall(name, argv, server, PASSWORD_VARIABLE, site, { ...times, failure, repeatable: true, ...more });
  const as = [...hostArgs(server), '--username', server.user, '--no-password'];
  const version = await readServerVersion(server, 'pg_dump', site, host);
  return planDump(intent, context, group, {
    source: `the database ${database} in ${server.name}`,
    space: 1.1,
    dump: {
      steps: [
        call('dump', ['pg_dump', '--format=custom', '--compress=6', '--lock-wait-timeout=60s', ...as, '--', database], {
          ...writesTo(dump, site),
          reasons: [
            OLD_CLIENT,
            {
              says: 'does not exist',
              code: 'database-missing',
              remedy: `Correct "database" or "user". ${failure.remedy}`,
            },
            { says: 'No space left', code: 'destination-full', remedy: 'Free space at the destination.' },
          ],
        }),
        call('dump roles', ['pg_dumpall', '--globals-only', '--no-role-passwords', ...as], {
          ...writesTo(`${partial}/globals.sql`, site),
          ...SHORT_TIMEOUT,
          reasons: [OLD_CLIENT],
        }),
      ],
      cleanup: [],
    },
    check: {
      steps: [
        // pg_restore lists a truncated dump without an error; only decoding all of it fails.
        call('check', ['pg_restore', '--file=/dev/null'], {
          ...readsFrom(dump, site),
          failure: {
            code: 'backup-broken',
            remedy: 'Check the destination’s disk and its free space: the dump could not be decoded.',
          },
        }),
        call('list', ['pg_restore', '--list'], {
          ...readsFrom(dump, site),
          mustSay: ['TABLE DATA'],
          failure: {
            code: 'backup-broken',
            remedy: `Check that ${database} is the right database: the dump holds no table.`,
          },
        }),
      ],
      cleanup: [],
    },
    drill:
      intent.verify_level === 'drill' && server.container
        ? planPostgresLoad(run, server.container.Image, dump, site, times)
        : EMPTY_STAGE,
    manifest: {
      kind: 'postgres',
      source: `${server.name}/${database}`,
      ...{ file, database },
      checks: ['decoded whole', 'it holds tables', 'sha256'],
      versions: { pg_dump: version },
      ...(server.container ? { image: server.container.Image } : {}),
    },
  });
}
