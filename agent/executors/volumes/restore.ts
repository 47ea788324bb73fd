import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Step } from '../../plan/plan.ts';
import { findSource, timestampOf } from '../backup/group.ts';
import { planQuiesce, planRestartChecks } from '../backup/quiesce.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planFetch } from './fetch.ts';

export type VolumesRestore = Extract<Intent, { action: 'restore'; of: string | { kind: 'docker_volumes' } }>;

/**
 * Plans a restore: the backup is checked, copied next to the target, and swapped with it; the old content is kept next to
 * it. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-path-unknown`.
 */
export async function planRestore(intent: VolumesRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const { name } = parseBackupSubject(intent.of);
  const { path, label, container } = await findSource(
    { source: intent.to, source_container: intent.to_container, source_path: intent.to_path },
    host,
  );
  const next = `${path}.restoring-${run}`;
  const { backup, check, copy } = await planFetch(intent, name, next, context, host);
  const existing = await host.list(path);
  if (existing && existing.length > 0 && intent.confirm_overwrite !== true) {
    throw new Failure(
      'overwrite-unconfirmed',
      `${label} is not empty. Nothing was changed.`,
      'Set confirm_overwrite: true in the intent (the present content is kept next to it), or restore to another folder.',
    );
  }
  const aside = `${path}.before-${timestampOf(at)}`;
  const services = await planQuiesce(
    { ...intent, consistency: 'stop' },
    container === undefined ? {} : { container },
    site,
    host,
  );
  const checks = planRestartChecks(intent, services, site);
  const swap = { path, next, aside, roots: site.backups.sources };
  const undo: Step[] = [
    ...services.quiesce.map(step => ({ ...step, name: `${step.name} again` })),
    { do: 'swap', name: 'swap back', ...swap, back: true },
    ...services.resume.map(step => ({ ...step, name: `${step.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${name} (${backup.name}) to ${label}`,
    summary: `${backup.files} files of ${backup.at}${existing && existing.length > 0 ? `; the present content is kept as ${aside}` : ''}.`,
    changes: [{ subject: label, change: 'write', details: [backup.name] }],
    steps: [
      ...check,
      copy,
      ...services.quiesce,
      { do: 'swap', name: 'swap', ...swap },
      ...services.resume,
      ...checks(false),
    ],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: 'swap' })),
    cleanup: [
      { do: 'swap', name: 'clear away', ...swap, back: true, ifBegan: 'copy', unlessBegan: 'swap' },
      ...services.cleanup.map(step => ({ ...step, unlessBegan: services.resume[0]?.name ?? '' })),
    ],
  };
}
