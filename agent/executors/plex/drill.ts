import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { findBackup, parseTimeouts } from '../backup/group.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { LIBRARY, PREFERENCES, planDatabaseChecks, planRemoval, planUnpack } from './archive.ts';

export type PlexDrill = Extract<Intent, { action: 'drill' }>;

/** The archive is unpacked, and its databases checked by Plex's own SQLite in a throw-away container. Throws Failure `backup-unknown`. */
export async function planDrill(intent: PlexDrill, { site, run, at }: PlanContext, look: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['plex'], look);
  const scratch = `${site.backups.records}/drill-${run}`;
  const times = parseTimeouts(intent);
  const { image = '(its image)', file: program = '', parts = [LIBRARY] } = backup;
  const databases = parts.filter(part => part !== PREFERENCES);
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Unpacked and checked without network: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      planBackupCheck(folder, backup.name),
      planUnpack(`${folder}/${backup.name}`, scratch, times),
      ...planDatabaseChecks({ image, program, databases }, scratch, site, times),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [planRemoval('clear away', scratch, site.backups.records, 'unpack')],
  };
}
