import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesDrill = Extract<Intent, { action: 'drill' }>;

/** The backup is restored into a folder of the agent's, and what lies there compared with its manifest. Throws Failure `backup-unknown`. */
export async function planDrill(intent: VolumesDrill, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const { name } = parseBackupSubject(intent.of);
  const scratch = `${site.backups.records}/drill-${run}`;
  const { backup, check, copy, folder } = await planFetch(intent, name, `${scratch}/${run}`, context, host);
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Restored into a folder that is thrown away: ${backup.files} files of ${backup.at}.`,
    changes: [],
    steps: [
      ...check,
      { ...copy, argv: mkpath(copy.argv) },
      // Only what was copied file by file has digests to compare with: restic has compared, and rsync with the other end.
      ...(check.length === 1
        ? [{ ...planBackupCheck(folder, backup.name), name: 'check what was restored', at: `${scratch}/${run}` }]
        : []),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [{ do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'copy' }],
  };
}

/** rsync makes no more than one folder by itself. */
function mkpath(argv: [string, ...string[]]): [string, ...string[]] {
  const [program, ...rest] = argv;
  return program === 'rsync' ? [program, '--mkpath', ...rest] : argv;
}
