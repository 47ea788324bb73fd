import type { KnownBackup as Known } from '../executors/executor.ts';
import type { BackupFacts, DrillFacts } from '../plan/progress.ts';

/** What this agent knows of the backups of one name: its newest one, and when it was last tried. */
export interface BackupIndexEntry extends Known {
  bytes: number;
  /** How long it took. */
  seconds: number;
  drilledAt?: string;
  drillSeconds?: number;
}

interface FinishedBackup {
  backup?: BackupFacts | undefined;
  drill?: DrillFacts | undefined;
  steps?: { ms: number }[] | undefined;
}

/** What is known after a document that has succeeded; undefined where it was no backup and no drill. */
export function updateIndexEntry(
  known: (kind: string, name: string) => BackupIndexEntry | undefined,
  { backup, drill, steps = [] }: FinishedBackup,
  { run, document, at }: { run: string; document: string; at: string },
): BackupIndexEntry | undefined {
  const of = backup ?? drill;
  if (!of) return undefined;
  const before = known(of.kind, of.name);
  if (drill) {
    const none = {
      kind: of.kind,
      name: of.name,
      archive: drill.backup,
      bytes: 0,
      at: '',
      seconds: 0,
      run: '',
      document: '',
    };
    return { ...(before ?? none), drilledAt: drill.at, drillSeconds: drill.seconds };
  }
  if (!backup) return undefined;
  const { kind, name, archive, bytes, verified } = backup;
  const seconds = steps.reduce((sum, step) => sum + step.ms, 0) / 1000;
  const drilled =
    before?.drilledAt === undefined ? {} : { drilledAt: before.drilledAt, drillSeconds: before.drillSeconds ?? 0 };
  const proved = verified ? at : before?.verifiedAt;
  return {
    kind,
    name,
    archive,
    bytes,
    at,
    ...(proved === undefined ? {} : { verifiedAt: proved }),
    seconds,
    run,
    document,
    ...drilled,
  };
}
