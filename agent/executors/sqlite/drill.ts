import type { HostReader, Plan } from '../../plan/plan.ts';
import { type DrillIntent, planDrill } from '../backup/drill.ts';
import type { PlanContext } from '../executor.ts';
import { planCopyCheck } from './sqlite3.ts';

/** Copies the backup into a scratch folder and checks it there with SQLite. Throws Failure `backup-unknown`. */
export function planSqliteDrill(intent: DrillIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  return planDrill(intent, context, host, {
    kind: 'sqlite',
    summary: 'Restored into a scratch folder',
    scratchFrom: 'copy',
    load: ({ backup, path }, scratch, times) => ({
      steps: [
        {
          do: 'start',
          name: 'copy',
          argv: ['cp', '--recursive', '--no-target-directory', '--', path, scratch],
          ...times,
          repeatable: true,
          failure: { code: 'drill-failed', remedy: 'Check the free space of the agent’s state_dir.' },
        },
        planCopyCheck(`${scratch}/${backup.file ?? 'database'}`, times),
      ],
      cleanup: [],
    }),
  });
}
