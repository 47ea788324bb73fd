import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesDrill = Extract<Intent, { action: 'drill' }>;

/** Plans a drill: the backup is restored into a scratch folder, and the result is compared with the manifest. Throws Failure `backup-unknown`. */
export async function planDrill(intent: VolumesDrill, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const { name } = parseBackupSubject(intent.of);
  const scratch = `${site.backups.records}/drill-${run}`;
  const { backup, check, copy, folder } = await planFetch(intent, name, `${scratch}/${run}`, context, host);
  return {
    title: `drill of ${name} (${backup.name})`,
    summary: `Restored into a scratch folder that is deleted afterwards: ${backup.files} files of ${backup.at}.`,
    changes: [],
    steps: [
      ...check,
      { ...copy, argv: mkpath(copy.argv) },
      // A backup on this host has a digest per file. restic has compared already, and so has rsync with the other host.
      ...(check.length === 1
        ? [{ ...planBackupCheck(folder, backup.name), name: 'check what was restored', at: `${scratch}/${run}` }]
        : []),
      { do: 'note-drill', name: 'note the drill', folder, backup: backup.name, since: at },
    ],
    undo: [],
    cleanup: [{ do: 'clear', name: 'clear away', path: scratch, root: site.backups.records, ifBegan: 'copy' }],
  };
}

/** rsync creates only the last folder of a path without --mkpath. */
function mkpath(argv: [string, ...string[]]): [string, ...string[]] {
  const [program, ...rest] = argv;
  return program === 'rsync' ? [program, '--mkpath', ...rest] : argv;
}
