import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Step } from '../../plan/plan.ts';
import { planBackupCheck, planScratchContainer, planServerCall } from '../backup/database-server.ts';
import { findBackup, parseTimeouts } from '../backup/group.ts';
import { type HostSite, type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';

export type PostgresDrill = Extract<Intent, { action: 'drill' }>;

export const COUNT_QUERY =
  "SELECT 'tables: ' || count(*) FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";

/** Loads a dump into a throw-away server of that image, and counts. */
export function planPostgresDrillSteps(
  run: string,
  image: string,
  dump: string,
  site: HostSite,
  times: ReturnType<typeof parseTimeouts>,
): { steps: Step[]; cleanup: Step[] } {
  const server = planScratchContainer(run, image, site, {
    tmpfs: '/var/lib/postgresql/data',
    env: ['POSTGRES_HOST_AUTH_METHOD=trust', 'POSTGRES_USER=postgres'],
    // The images' first start has a server of its own on the socket only: the real one is the one on the address.
    ready: ['pg_isready', '--host', '127.0.0.1', '--username', 'postgres'],
    waiting: ['no response', 'rejecting connections', 'no attempt'],
  });
  const failure = { code: 'drill-failed', remedy: 'The dump can’t be loaded: read the step’s output.' };
  const call = (name: string, argv: [string, ...string[]], more: object = {}) =>
    planServerCall(name, argv, { at: server.name, password: undefined }, '', site, { ...times, failure, ...more });
  const as = ['--host', '127.0.0.1', '--username', 'postgres', '--no-password'];
  return {
    steps: [
      ...server.steps,
      call('make a database', ['createdb', ...as, '--template=template0', 'drill']),
      call('load', ['pg_restore', ...as, '--exit-on-error', '--no-owner', '--no-privileges', '--dbname', 'drill'], {
        stdinFrom: dump,
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
export async function planDrill(
  intent: PostgresDrill,
  { site, run, at }: PlanContext,
  look: HostReader,
): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['postgres'], look);
  const drill = planPostgresDrillSteps(
    run,
    requireImage(backup),
    `${folder}/${backup.name}/${backup.file}`,
    site,
    parseTimeouts(intent),
  );
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Loaded into a throw-away server without network: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      planBackupCheck(folder, backup.name),
      ...drill.steps,
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: drill.cleanup,
  };
}

/** Throws Failure `image-gone`. */
export function requireImage({ image, name }: { image?: string | undefined; name: string }): string {
  if (image !== undefined || name.startsWith('(')) return image ?? '(its image)';
  throw new Failure(
    'image-gone',
    `The backup ${name} does not say with which image it was made: its server ran on the host itself.`,
    'Restore it into a server by hand, see RESTORE.md beside it.',
  );
}
