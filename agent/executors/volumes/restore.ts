import type { HostReader, Plan } from '../../plan/plan.ts';
import { findSource } from '../backup/group.ts';
import { openTarget } from '../backup/opened.ts';
import { assembleRestore, requireConfirmation } from '../backup/restore.ts';
import { planSwap } from '../backup/swap.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesRestore = Extract<Intent, { action: 'restore'; of: string | { kind: 'docker_volumes' } }>;

/**
 * Plans a restore: the backup is checked, copied next to the target, and swapped with it; the old content is kept next to
 * it. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-path-unknown`.
 */
export async function planRestore(intent: VolumesRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const { path, label, container } = await findSource(
    { source: intent.to, source_container: intent.to_container, source_path: intent.to_path },
    context.site,
    host,
  );
  const { next, aside, swap, rollback, cleanup } = planSwap(path, { copyStep: 'copy' }, context);
  const { backup, check, copy } = await planFetch(intent, name, openTarget(next, swap.root), context, host);
  const hasContent = ((await host.list(path)) ?? []).length > 0;
  const overwrites = hasContent
    ? {
        message: `${label} is not empty. Nothing was changed.`,
        remedy:
          'Set confirm_overwrite: true in the intent (the present content is kept next to it), or restore to another folder.',
      }
    : undefined;
  requireConfirmation(intent, { overwrites });
  return assembleRestore(
    intent,
    context,
    host,
    { container },
    {
      title: `${name} (${backup.name})`,
      ...{ target: label, subject: label, backup: backup.name },
      summary: `${backup.files} files of ${backup.at}`,
      kept: hasContent ? `the present content is kept as ${aside}` : '',
      prepare: [...check, copy],
      ...{ swap: [swap], changesFrom: swap.name, rollback: [rollback], cleanup: [cleanup] },
    },
  );
}
