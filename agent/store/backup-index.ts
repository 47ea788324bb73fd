import type { KnownBackup as Known } from '../executors/executor.ts';
import type { BackupFacts, DrillFacts } from '../plan/progress.ts';

/** The newest backup of a name, and its last drill. */
export interface BackupIndexEntry extends Known {
  bytes: number;
  /** Duration of the backup. */
  seconds: number;
  drilledAt?: string;
  drillSeconds?: number;
}

interface FinishedBackup {
  backup?: BackupFacts | undefined;
  drill?: DrillFacts | undefined;
  steps?: { ms: number }[] | undefined;
}

/** Returns the index entry after a document has succeeded; undefined if the document was neither a backup nor a drill. */
export function updateIndexEntry(
  findEntry: (kind: string, name: string) => BackupIndexEntry | undefined,
  { backup, drill, steps = [] }: FinishedBackup,
  { run, document, at }: { run: string; document: string; at: string },
): BackupIndexEntry | undefined {
  const facts = backup ?? drill;
  if (!facts) return undefined;
  const previous = findEntry(facts.kind, facts.name);
  if (drill) {
    const empty = {
      kind: facts.kind,
      name: facts.name,
      archive: drill.backup,
      bytes: 0,
      at: '',
      seconds: 0,
      run: '',
      document: '',
    };
    return { ...(previous ?? empty), drilledAt: drill.at, drillSeconds: drill.seconds };
  }
  if (!backup) return undefined;
  const { kind, name, archive, bytes, verified } = backup;
  const seconds = steps.reduce((sum, step) => sum + step.ms, 0) / 1000;
  const drillFacts =
    previous?.drilledAt === undefined
      ? {}
      : { drilledAt: previous.drilledAt, drillSeconds: previous.drillSeconds ?? 0 };
  const verifiedAt = verified ? at : previous?.verifiedAt;
  return {
    kind,
    name,
    archive,
    bytes,
    at,
    ...(verifiedAt === undefined ? {} : { verifiedAt }),
    seconds,
    run,
    document,
    ...drillFacts,
  };
}
