import type { HostReader, Plan } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { assembleDrill, type DrillIntent, scratchFolder } from '../backup/drill.ts';
import { type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesDrill = DrillIntent;

/** Plans a drill: the backup is restored into a scratch folder, and the result is compared with the manifest. Throws Failure `backup-unknown`. */
export async function planDrill(intent: VolumesDrill, context: PlanContext, host: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const restored = `${scratchFolder(context)}/${context.run}`;
  const { backup, check, copy, folder } = await planFetch(intent, name, restored, context, host);
  // A backup on this host has a digest per file. restic has compared already, and so has rsync with the other host.
  const compare =
    check.length === 1
      ? [{ ...planBackupCheck(folder, backup.name), name: 'check what was restored', at: restored }]
      : [];
  return assembleDrill({ name, backup, folder, scratchFrom: 'copy' }, context, {
    summary: `Restored into a scratch folder: ${backup.files} files of ${backup.at}.`,
    stage: { steps: [...check, { ...copy, argv: mkpath(copy.argv) }, ...compare], cleanup: [] },
  });
}

/** rsync creates only the last folder of a path without --mkpath. */
function mkpath(argv: [string, ...string[]]): [string, ...string[]] {
  const [program, ...rest] = argv;
  return program === 'rsync' ? [program, '--mkpath', ...rest] : argv;
}
