import type { BackupDescription } from '../../plan/backup-manifest.ts';
import type { CheckTargetStep, Plan, Step } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import {
  type BackupFields,
  type BackupGroup,
  listBackupChanges,
  planPartialCleanup,
  planPrune,
  planReadBack,
  planTargetCheck,
  summarizeGroup,
} from './group.ts';
import type { QuiesceSteps } from './quiesce.ts';
import { EMPTY_STAGE, type Stage } from './stage.ts';

/** The parts of a backup that differ from kind to kind. */
export interface DumpStages {
  /** Completes the title "backup of …": `the database shop in db`. */
  source: string;
  /** The space that the backup needs at the destination, as a multiple of the last one's size. */
  space: number;
  /** Checks the agent's own folder, if copies are made there first. */
  room?: CheckTargetStep;
  services?: QuiesceSteps;
  /** Copies the data. The services are quiesced. */
  dump: Stage;
  /** Checks the copy. The services run again. */
  check: Stage;
  /** Loads the copy into a scratch server. */
  drill?: Stage;
  /** Brings the copy into the form that is kept. */
  pack?: Step[];
  /** The step that starts to write the partial backup. Default: the check of the destination, which makes its folder. */
  partialFrom?: string;
  manifest: Omit<BackupDescription, 'name' | 'run' | 'at' | 'notes' | 'checks'> & { checks: string[] };
}

const TARGET_CHECK = 'check the destination';

/**
 * Plans a backup of any database. The order protects the data: a copy gets its name, and earlier backups are pruned, only
 * after the copy has passed its checks and was read back.
 */
export function planDump(fields: BackupFields, context: PlanContext, group: BackupGroup, stages: DumpStages): Plan {
  const { source, space, services, room, dump, check, drill = EMPTY_STAGE, pack = [] } = stages;
  const checks = [...stages.manifest.checks, ...(drill.steps.length > 0 ? ['loaded and counted'] : [])];
  return {
    title: `backup of ${source} to ${group.folder}`,
    summary: summarizeGroup(group),
    changes: listBackupChanges(group, fields, context.at),
    steps: [
      planTargetCheck(
        group,
        (group.last?.bytes ?? 0) * space,
        stages.partialFrom === undefined ? `/${group.partial}` : '',
      ),
      ...(room ? [room] : []),
      ...(services?.quiesce ?? []),
      ...dump.steps,
      ...(services?.resume ?? []),
      ...check.steps,
      ...drill.steps,
      ...pack,
      planReadBack(group, context, fields, { ...stages.manifest, checks }),
      planPrune(group, fields),
    ],
    undo: [],
    cleanup: [
      ...drill.cleanup,
      planPartialCleanup(group, stages.partialFrom ?? TARGET_CHECK),
      ...dump.cleanup,
      ...(services?.cleanup ?? []),
      ...check.cleanup,
    ],
  };
}
