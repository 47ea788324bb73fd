import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { assembleDrill, type DrillIntent, scratchFolder } from '../backup/drill.ts';
import { openNew } from '../backup/opened.ts';
import { type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesDrill = DrillIntent;

/** Plans a drill: the backup is restored into a scratch folder, and the result is compared with the manifest. Throws Failure `backup-unknown`. */
export async function planDrill(intent: VolumesDrill, context: PlanContext, host: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const restored = `${scratchFolder(context)}/${context.run}`;
  const to = openNew(restored, context.site.backups.records);
  const { backup, check, copy, folder, root } = await planFetch(intent, name, to, context, host);
  // A backup on this host has a digest per file. restic has compared already, and so has rsync with the other host.
  const compare =
    check.length === 1
      ? [{ ...planBackupCheck(folder, root, backup.name), name: 'check what was restored', at: restored }]
      : [];
  return assembleDrill({ name, backup, folder, root, scratchFrom: 'copy' }, context, {
    summary: `Restored into a scratch folder: ${backup.files} files of ${backup.at}.`,
    stage: { steps: [...check, copy, ...compare], cleanup: [] },
  });
}
