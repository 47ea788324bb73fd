import type { Look, Plan } from '../../plan/plan.ts';
import { checkBackup } from '../backup/database-server.ts';
import { findBackup, timesOf } from '../backup/group.ts';
import { type Context, type Intent, subjectOf } from '../executor.ts';
import { checkCopy } from './sqlite3.ts';

export type SqliteDrill = Extract<Intent, { action: 'drill' }>;

/** The newest copy, put into a folder that is thrown away, answers SQLite's own check. Throws CannotPlan `backup-unknown`. */
export async function planDrill(intent: SqliteDrill, { site, run, at }: Context, look: Look): Promise<Plan> {
  const { name } = subjectOf(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['sqlite'], look);
  const scratch = `${site.backups.records}/drill-${run}`;
  const times = timesOf(intent);
  const file = `${scratch}/${backup.file ?? 'database'}`;
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Restored into a folder that is thrown away: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      checkBackup(folder, backup.name),
      {
        do: 'start',
        name: 'copy',
        argv: ['cp', '--recursive', '--no-target-directory', '--', `${folder}/${backup.name}`, scratch],
        ...times,
        repeatable: true,
        failure: { code: 'drill-failed', remedy: 'Look for room in the agent’s state_dir.' },
      },
      checkCopy(file, times),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [{ do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'copy' }],
  };
}
