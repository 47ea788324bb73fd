import type { HostReader, Plan } from '../../plan/plan.ts';
import { planScratchContainer, planServerCall } from '../backup/database-server.ts';
import { type DrillIntent, planDrill, requireImage } from '../backup/drill.ts';
import type { StepTimeouts } from '../backup/group.ts';
import { readsFrom } from '../backup/opened.ts';
import type { Stage } from '../backup/stage.ts';
import type { HostSite, PlanContext } from '../executor.ts';

export const COUNT_QUERY =
  "SELECT 'tables: ' || count(*) FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";

/** Loads a dump into a scratch server of that image, and counts its tables. */
export function planPostgresLoad(run: string, image: string, dump: string, site: HostSite, times: StepTimeouts): Stage {
  const server = planScratchContainer(run, image, site, {
    tmpfs: '/var/lib/postgresql/data',
    env: ['POSTGRES_HOST_AUTH_METHOD=trust', 'POSTGRES_USER=postgres'],
    // On its first start the image runs a temporary server on the socket only: the real one answers at the address.
    ready: ['pg_isready', '--host', '127.0.0.1', '--username', 'postgres'],
    waiting: ['no response', 'rejecting connections', 'no attempt'],
  });
  const failure = { code: 'drill-failed', remedy: 'Read the step’s output: the server could not load the dump.' };
  const call = (name: string, argv: [string, ...string[]], more: object = {}) =>
    planServerCall(name, argv, { at: server.name, password: undefined }, '', site, { ...times, failure, ...more });
  const as = ['--host', '127.0.0.1', '--username', 'postgres', '--no-password'];
  return {
    steps: [
      ...server.steps,
      call('make a database', ['createdb', ...as, '--template=template0', 'drill']),
      call('load', ['pg_restore', ...as, '--exit-on-error', '--no-owner', '--no-privileges', '--dbname', 'drill'], {
        ...readsFrom(dump, site),
      }),
      call(
        'count',
        ['psql', ...as, '--no-psqlrc', '--tuples-only', '--no-align', '--dbname', 'drill', '--command', COUNT_QUERY],
        {
          mustSay: ['tables: '],
          mustNotSay: ['tables: 0\n'],
        },
      ),
    ],
    cleanup: server.cleanup,
  };
}

/** Throws Failure: `backup-unknown`, `image-gone`. */
export function planPostgresDrill(intent: DrillIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  return planDrill(intent, context, host, {
    kind: 'postgres',
    summary: 'Loaded into a scratch server without network',
    load: ({ backup, path }, _, times) =>
      planPostgresLoad(context.run, requireImage(backup), `${path}/${backup.file}`, context.site, times),
  });
}
