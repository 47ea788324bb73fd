import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { findBackup, parseTimeouts } from '../backup/group.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planCopyCheck } from './sqlite3.ts';

export type SqliteDrill = Extract<Intent, { action: 'drill' }>;

/** The newest copy, put into a folder that is thrown away, answers SQLite's own check. Throws Failure `backup-unknown`. */
export async function planDrill(intent: SqliteDrill, { site, run, at }: PlanContext, look: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['sqlite'], look);
  const scratch = `${site.backups.records}/drill-${run}`;
  const times = parseTimeouts(intent);
  const file = `${scratch}/${backup.file ?? 'database'}`;
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Restored into a folder that is thrown away: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      planBackupCheck(folder, backup.name),
      {
        do: 'start',
        name: 'copy',
        argv: ['cp', '--recursive', '--no-target-directory', '--', `${folder}/${backup.name}`, scratch],
        ...times,
        repeatable: true,
        failure: { code: 'drill-failed', remedy: 'Look for room in the agent’s state_dir.' },
      },
      planCopyCheck(file, times),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [{ do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'copy' }],
  };
}
