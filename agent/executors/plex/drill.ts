import type { HostReader, Plan } from '../../plan/plan.ts';
import { type DrillIntent, planDrill } from '../backup/drill.ts';
import type { PlanContext } from '../executor.ts';
import { archivedDatabases, planDatabaseChecks, planUnpack } from './archive.ts';

/** Unpacks the archive; Plex's own SQLite checks the databases in a scratch container. Throws Failure `backup-unknown`. */
export function planPlexDrill(intent: DrillIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  return planDrill(intent, context, host, {
    kind: 'plex',
    summary: 'Unpacked and checked without network',
    scratchFrom: 'unpack',
    load: ({ backup, path }, scratch, times) => ({
      steps: [
        planUnpack(path, scratch, context.site, times),
        ...planDatabaseChecks(archivedDatabases(backup), scratch, context.site, times),
      ],
      cleanup: [],
    }),
  });
}
