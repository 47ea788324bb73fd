import type { BackupKind } from '../../plan/backup-manifest.ts';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Step } from '../../plan/plan.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planBackupCheck } from './database-server.ts';
import { findStoredBackup, parseTimeouts, type StepTimeouts, type StoredBackup } from './group.ts';
import { planQuiesce, planRestartChecks } from './quiesce.ts';

/** A restore that replaces data of this host: all but those of virtual machines. */
type RestoreIntent = Exclude<Extract<Intent, { action: 'restore' }>, { to_vm_id: number }>;
export type DatabaseRestoreIntent = Extract<RestoreIntent, { of: { kind: string; name: string } }>;

/** The data that a restore replaces. */
export interface RestoreTarget {
  /** The container that uses the data. It is stopped with the intent's services. */
  container?: string | undefined;
  /** Set if there is data now: the error for an intent that does not confirm the overwrite. */
  overwrites: { message: string; remedy: string } | undefined;
}

/** The parts of a restore that differ from kind to kind. */
export interface RestoreStages {
  /** Completes the title "restore of … to …": `the database shop in db`. */
  target: string;
  /** The subject of the change that the plan shows. */
  subject: string;
  /** Completes the summary: the place where the current data is kept. Empty if there is none. */
  kept: string;
  /** Brings the backup next to the data and checks it. The services still run. */
  prepare: Step[];
  /** Replaces the data. The services are stopped. */
  swap: Step[];
  /** The step of `swap` that is the first to change data: before it there is nothing to roll back. */
  changesFrom: string;
  /** Puts the old data back. The services are stopped. */
  rollback: Step[];
  cleanup: Step[];
}

export interface RestoreKind<T extends RestoreTarget> {
  kind: BackupKind;
  find(stored: StoredBackup, times: StepTimeouts): Promise<T> | T;
  plan(target: T, stored: StoredBackup, times: StepTimeouts): Promise<RestoreStages> | RestoreStages;
}

/** Plans a restore of any database. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`. */
export async function planRestore<T extends RestoreTarget>(
  intent: DatabaseRestoreIntent,
  context: PlanContext,
  host: HostReader,
  kind: RestoreKind<T>,
): Promise<Plan> {
  const { name } = intent.of;
  const stored = await findStoredBackup(intent, name, kind.kind, context.site, host);
  const { backup, folder, root } = stored;
  const times = parseTimeouts(intent);
  const target = await kind.find(stored, times);
  requireConfirmation(intent, target);
  const stages = await kind.plan(target, stored, times);
  const prepare = [planBackupCheck(folder, root, backup.name), ...stages.prepare];
  return assembleRestore(intent, context, host, target, {
    ...{ ...stages, prepare },
    title: `${name} (${backup.name})`,
    summary: `${backup.bytes} bytes of ${backup.at}`,
    backup: backup.name,
  });
}

/** Throws Failure `overwrite-unconfirmed`. */
export function requireConfirmation(intent: Pick<RestoreIntent, 'confirm_overwrite'>, { overwrites }: RestoreTarget) {
  if (overwrites && intent.confirm_overwrite !== true)
    throw new Failure('overwrite-unconfirmed', overwrites.message, overwrites.remedy);
}

/**
 * Joins the parts of a restore. The order protects the data: the backup is checked before a service is stopped, the old data
 * is kept until the restored services have passed their checks, and a rollback stops the services first.
 */
export async function assembleRestore(
  intent: RestoreIntent,
  { site }: PlanContext,
  host: HostReader,
  { container }: Pick<RestoreTarget, 'container'>,
  stages: RestoreStages & { title: string; summary: string; backup: string },
): Promise<Plan> {
  const uses = container === undefined ? {} : { container };
  const services = await planQuiesce({ ...intent, consistency: 'stop' }, uses, site, host);
  const checks = planRestartChecks(intent, services, site);
  const undo = [...again(services.quiesce), ...stages.rollback, ...again(services.resume), ...checks(true)];
  return {
    title: `restore of ${stages.title} to ${stages.target}`,
    summary: `${stages.summary}${stages.kept === '' ? '' : `; ${stages.kept}`}. ${services.note}`.trim(),
    changes: [{ subject: stages.subject, change: 'write', details: [stages.backup] }],
    steps: [...stages.prepare, ...services.quiesce, ...stages.swap, ...services.resume, ...checks(false)],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: stages.changesFrom })),
    cleanup: [
      ...stages.cleanup,
      ...services.cleanup.map(step => ({ ...step, unlessBegan: services.resume[0]?.name ?? '' })),
    ],
  };
}

function again(steps: Step[]): Step[] {
  return steps.map(step => ({ ...step, name: `${step.name} again` }));
}
