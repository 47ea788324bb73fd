import type { BackupKind } from '../../plan/backup-manifest.ts';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan } from '../../plan/plan.ts';
import { type Intent, type PlanContext, parseBackupSubject } from '../executor.ts';
import { planBackupCheck } from './database-server.ts';
import { type EarlierBackup, findStoredBackup, parseTimeouts, type StepTimeouts, type StoredBackup } from './group.ts';
import type { Stage } from './stage.ts';

export type DrillIntent = Extract<Intent, { action: 'drill' }>;

/** The parts of a drill that differ from kind to kind. */
export interface DrillKind {
  kind: BackupKind;
  /** Starts the summary: `Loaded into a scratch server without network`. */
  summary: string;
  /** The step of `load` that creates the scratch folder. Absent: the kind needs no folder. */
  scratchFrom?: string;
  /** Restores the backup into the scratch folder or a scratch server, and checks it there. Throws Failure. */
  load(stored: StoredBackup, scratch: string, times: StepTimeouts): Stage;
}

/** Plans a drill of any database. Throws Failure: `backup-unknown`, and those of the kind. */
export async function planDrill(
  intent: DrillIntent,
  context: PlanContext,
  host: HostReader,
  { kind, summary, scratchFrom, load }: DrillKind,
): Promise<Plan> {
  const { name } = parseBackupSubject(intent.of);
  const stored = await findStoredBackup(intent, name, kind, context.site, host);
  const { backup, folder, root } = stored;
  const { steps, cleanup } = load(stored, scratchFolder(context), parseTimeouts(intent));
  return assembleDrill({ name, backup, folder, root, scratchFrom }, context, {
    summary: `${summary}: ${backup.bytes} bytes of ${backup.at}.`,
    stage: { steps: [planBackupCheck(folder, root, backup.name), ...steps], cleanup },
  });
}

export function scratchFolder({ site, run }: PlanContext): string {
  return `${site.backups.records}/drill-${run}`;
}

/** Joins the parts of a drill: nothing outside of the scratch folder and the scratch server is written, except its result. */
export function assembleDrill(
  subject: { name: string; backup: EarlierBackup; folder: string; root: string; scratchFrom?: string | undefined },
  context: PlanContext,
  { summary, stage }: { summary: string; stage: Stage },
): Plan {
  const { name, backup, folder, scratchFrom } = subject;
  const { records } = context.site.backups;
  return {
    title: `drill of ${name} (${backup.name})`,
    summary,
    changes: [],
    steps: [
      ...stage.steps,
      { do: 'note-drill', name: 'note the drill', folder, root: subject.root, backup: backup.name, since: context.at },
    ],
    undo: [],
    cleanup: [
      ...stage.cleanup,
      ...(scratchFrom === undefined
        ? []
        : [
            {
              do: 'clear' as const,
              name: 'clear away',
              path: scratchFolder(context),
              root: records,
              ifBegan: scratchFrom,
            },
          ]),
    ],
  };
}

/** Returns the image that the backup was made with. Throws Failure `image-gone`. */
export function requireImage({ image, name, run }: EarlierBackup): string {
  // A dry run reads no manifest: the backup has no run.
  if (image !== undefined || run === '') return image ?? UNKNOWN_IMAGE;
  throw new Failure(
    'image-gone',
    `The backup ${name} names no image: its server ran on the host itself.`,
    'Restore it into a server by hand: see RESTORE.md next to it.',
  );
}

/** Stands in a plan for an image that a dry run does not know. */
export const UNKNOWN_IMAGE = '(its image)';
