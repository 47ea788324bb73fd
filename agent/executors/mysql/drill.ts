import type { HostReader, Plan } from '../../plan/plan.ts';
import { planScratchContainer } from '../backup/database-server.ts';
import { type DrillIntent, planDrill, requireImage } from '../backup/drill.ts';
import type { StepTimeouts } from '../backup/group.ts';
import { readsFrom } from '../backup/opened.ts';
import type { Stage } from '../backup/stage.ts';
import type { HostSite, PlanContext } from '../executor.ts';
import { createServerCall, planDumpUnpack } from './server.ts';

const COUNT =
  "SELECT CONCAT('tables: ', COUNT(*)) FROM information_schema.tables WHERE table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')";

/** Loads a dump into a scratch server of that image, and counts its tables. `version`: of a program of that image. */
export function planMysqlLoad(
  run: string,
  image: string,
  dump: string,
  site: HostSite,
  times: StepTimeouts,
  version: string,
): Stage {
  const [client, admin] = /maria/i.test(version) ? ['mariadb', 'mariadb-admin'] : ['mysql', 'mysqladmin'];
  const server = planScratchContainer(run, image, site, {
    tmpfs: '/var/lib/mysql',
    env: ['MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1', 'MYSQL_ALLOW_EMPTY_PASSWORD=1'],
    // On its first start the image runs a temporary server on the socket only: the real one answers at the address.
    ready: [admin, '--host=127.0.0.1', '--user=root', '--connect-timeout=5', 'ping'],
    waiting: ["Can't connect", 'failed', 'Lost connection'],
  });
  const failure = { code: 'drill-failed', remedy: 'Read the step’s output: the server could not load the dump.' };
  const call = createServerCall({ at: server.name, password: undefined }, site, times, failure);
  const as = ['--host=127.0.0.1', '--user=root'];
  return {
    steps: [
      ...server.steps,
      call('load', [client, ...as, '--default-character-set=utf8mb4'], readsFrom(dump, site)),
      call('count', [client, ...as, '--skip-column-names', '--batch', '--execute', COUNT], {
        mustSay: ['tables: '],
        mustNotSay: ['tables: 0\n'],
      }),
    ],
    cleanup: server.cleanup,
  };
}

/** Throws Failure: `backup-unknown`, `image-gone`. */
export function planMysqlDrill(intent: DrillIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  return planDrill(intent, context, host, {
    kind: 'mysql',
    summary: 'Loaded into a scratch server without network',
    scratchFrom: 'unpack',
    load({ backup, path }, scratch, times) {
      const image = requireImage(backup);
      const dump = `${scratch}/dump.sql`;
      const version = Object.entries(backup.versions ?? {})
        .flat()
        .join(' ');
      const { steps, cleanup } = planMysqlLoad(context.run, image, dump, context.site, times, version);
      return { steps: [planDumpUnpack(`${path}/${backup.file}`, dump, context.site, times), ...steps], cleanup };
    },
  });
}
