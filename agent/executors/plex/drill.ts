import type { Look, Plan } from '../../plan/plan.ts';
import { checkBackup } from '../backup/database-server.ts';
import { findBackup, timesOf } from '../backup/group.ts';
import { type Context, type Intent, subjectOf } from '../executor.ts';
import { check, clear, LIBRARY, PREFERENCES, unpack } from './archive.ts';

export type PlexDrill = Extract<Intent, { action: 'drill' }>;

/** The archive is unpacked, and its databases checked by Plex's own SQLite in a throw-away container. Throws CannotPlan `backup-unknown`. */
export async function planDrill(intent: PlexDrill, { site, run, at }: Context, look: Look): Promise<Plan> {
  const { name } = subjectOf(intent.of);
  const folder = `${intent.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: intent.at }, folder, ['plex'], look);
  const scratch = `${site.backups.records}/drill-${run}`;
  const times = timesOf(intent);
  const { image = '(its image)', file: program = '', parts = [LIBRARY] } = backup;
  const databases = parts.filter(part => part !== PREFERENCES);
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Unpacked and checked without network: ${backup.bytes} bytes of ${backup.at}.`,
    changes: [],
    steps: [
      checkBackup(folder, backup.name),
      unpack(`${folder}/${backup.name}`, scratch, times),
      ...check({ image, program, databases }, scratch, site, times),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [clear('clear away', scratch, site.backups.records, 'unpack')],
  };
}
