import type { HostReader, Plan } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planServerCall, SHORT_TIMEOUT } from '../backup/database-server.ts';
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
import { planDrill, planPostgresDrillSteps } from './drill.ts';
import { type PostgresRestore, planRestore } from './restore.ts';
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
  backup: planBackup,
  restore: planRestore,
  drill: planDrill,
});

async function planBackup(intent: PostgresBackupIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, at, run } = context;
  const server = await findPostgres(intent, site, look);
  const shelf = await findBackupGroup(intent, context, look);
  const { folder, partial, last } = shelf;
  const { database } = intent;
  const file = `${database}.dump`;
  const dump = `${folder}/${partial}/${file}`;
  const times = parseTimeouts(intent);
  const failure = {
    code: 'dump-failed',
    remedy: 'Read the step’s output. The earlier backups are untouched.',
  };
  const call = (name: string, argv: [string, ...string[]], more: object) =>
    planServerCall(name, argv, server, PASSWORD_VARIABLE, site, { ...times, failure, repeatable: true, ...more });
  const as = [...hostArgs(server), '--username', server.user, '--no-password'];
  const version = await readServerVersion(server, 'pg_dump', site, look);
  const drilling =
    intent.verify_level === 'drill' && server.container
      ? planPostgresDrillSteps(run, server.container.Image, dump, site, times)
      : { steps: [], cleanup: [] };
  return {
    title: `backup of the database ${database} in ${server.name} to ${folder}`,
    summary: summarizeGroup(shelf),
    changes: listBackupChanges(shelf, intent, at),
    steps: [
      planTargetCheck(shelf, (last?.bytes ?? 0) * 1.1, `/${partial}`),
      call('dump', ['pg_dump', '--format=custom', '--compress=6', '--lock-wait-timeout=60s', ...as, '--', database], {
        stdoutTo: dump,
        reasons: [
          OLD_CLIENT,
          {
            says: 'does not exist',
            code: 'database-missing',
            remedy: `Correct "database" or "user". ${failure.remedy}`,
          },
          { says: 'No space left', code: 'destination-full', remedy: 'Make room at the destination.' },
        ],
      }),
      call('dump roles', ['pg_dumpall', '--globals-only', '--no-role-passwords', ...as], {
        stdoutTo: `${folder}/${partial}/globals.sql`,
        ...SHORT_TIMEOUT,
        reasons: [OLD_CLIENT],
      }),
      // Listing a dump succeeds for one that is cut in half; only decoding all of it does not.
      call('check', ['pg_restore', '--file=/dev/null'], {
        stdinFrom: dump,
        failure: {
          code: 'backup-broken',
          remedy: 'The dump can’t be decoded: look at the destination’s disk and room.',
        },
      }),
      call('list', ['pg_restore', '--list'], {
        stdinFrom: dump,
        mustSay: ['TABLE DATA'],
        failure: {
          code: 'backup-broken',
          remedy: `The dump holds no table: is ${database} the database that is meant?`,
        },
      }),
      ...drilling.steps,
      planReadBack(shelf, context, intent, {
        kind: 'postgres',
        source: `${server.name}/${database}`,
        ...{ file, database },
        checks: [
          'decoded whole',
          'it holds tables',
          'sha256',
          ...drilling.steps.slice(0, 1).map(() => 'loaded and counted'),
        ],
        versions: { pg_dump: version },
        ...(server.container ? { image: server.container.Image } : {}),
      }),
      planPrune(shelf, intent),
    ],
    undo: [],
    cleanup: [...drilling.cleanup, planPartialCleanup(shelf, 'check the destination')],
  };
}
