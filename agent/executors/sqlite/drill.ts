import type { HostReader, Plan } from '../../plan/plan.ts';
import { type DrillIntent, planDrill } from '../backup/drill.ts';
import { copiesFile, readsFrom, writesTo } from '../backup/opened.ts';
import type { PlanContext } from '../executor.ts';
import { planCopyCheck } from './sqlite3.ts';

/** Copies the backup into a scratch folder and checks it there with SQLite. Throws Failure `backup-unknown`. */
export function planSqliteDrill(intent: DrillIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site } = context;
  return planDrill(intent, context, host, {
    kind: 'sqlite',
    summary: 'Restored into a scratch folder',
    scratchFrom: 'copy',
    load: ({ backup: { file = 'database' }, path }, scratch, times) => ({
      steps: [
        {
          do: 'start',
          name: 'copy',
          ...copiesFile(readsFrom(`${path}/${file}`, site), writesTo(`${scratch}/${file}`, site)),
          ...times,
          repeatable: true,
          failure: { code: 'drill-failed', remedy: 'Check the free space of the agent’s state_dir.' },
        },
        planCopyCheck({ path: `${scratch}/${file}`, root: site.backups.records }, times),
      ],
      cleanup: [],
    }),
  });
}
