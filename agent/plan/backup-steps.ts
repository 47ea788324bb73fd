import type { BackupDescription } from './backup-manifest.ts';
import type { RetentionRules } from './retention.ts';
import type { Milliseconds, StartStep, StepBase } from './start-step.ts';

/**
 * The place of a backup is the one that is meant: mounted as said, marked, writable, with room. Throws nothing away and
 * makes `folder`.
 */
export interface CheckTargetStep extends StepBase {
  do: 'check-target';
  /** As agent.yaml names it. */
  path: string;
  mount?: { source?: string | undefined; fstype?: string | undefined } | undefined;
  marker?: string | undefined;
  /** Bytes that must be free: what the backup is expected to take, and what must be left. */
  needs: number;
  /** Files are to keep their owners there. */
  owners?: true;
  /** A folder of this backup below it. */
  folder: string;
}

/** What is to be backed up is there, under one of the roots, not empty, and has not lost more than half since the last time. */
export interface CheckSourceStep extends StepBase {
  do: 'check-source';
  path: string;
  roots: string[];
  /** What the last verified backup held; absent: nothing to compare with. */
  last?: { bytes: number; files: number } | undefined;
  acceptShrink: boolean;
  /** It is copied while it is in use: a database in it is refused. */
  live?: true;
}

/**
 * Reads a backup back (`partial`, a file or a folder in `folder`): each file's SHA-256, bytes, count. Then makes it durable, writes
 * its manifest `<name>.json`, and gives it its name.
 */
export interface SealStep extends StepBase {
  do: 'seal';
  folder: string;
  partial: string;
  as: string;
  manifest: BackupDescription;
}

/**
 * Writes the manifest of a snapshot that restic has made. `partial`, a folder in `folder`, holds what restic told of it:
 * `snapshots.json` and `stats.json`.
 */
export interface NoteSnapshotStep extends StepBase {
  do: 'note-snapshot';
  folder: string;
  partial: string;
  as: string;
  manifest: BackupDescription;
}

/**
 * Adds up what rsync has listed (`<md5> <bytes> <itemized> <path>` a line) of a backup on another host. Writes its manifest
 * into `folder`, or where none is given compares with the one that is there.
 */
export interface TallyStep extends StepBase {
  do: 'tally';
  list: string;
  folder: string;
  as: string;
  /** Where it lies, for the receipt. */
  archive: string;
  manifest?: BackupDescription;
}

/** A backup is read again whole, and must be what its manifest says. */
export interface CheckBackupStep extends StepBase {
  do: 'check-backup';
  folder: string;
  backup: string;
  /** What is compared with the manifest in its place: a copy of it, elsewhere. */
  at?: string;
}

/** A folder takes another's place: what is at `path` goes to `aside`, what is at `next` to `path`. Back again: `back`. */
export interface SwapStep extends StepBase {
  do: 'swap';
  path: string;
  next: string;
  aside: string;
  /** Under one of these it must be, once links are resolved. */
  roots: string[];
  /** Endings of files that belong to a file: they go and come with it, and none stays beside the new one. */
  sides?: string[];
  back?: true;
}

/** Removes a folder or file and all that is in it, under `root`. */
export interface ClearStep extends StepBase {
  do: 'clear';
  path: string;
  root: string;
}

/** A backup has been restored for a trial: its manifest says so from now on, and how long it took. `since`: ISO 8601. */
export interface NoteDrillStep extends StepBase {
  do: 'note-drill';
  folder: string;
  backup: string;
  since: string;
}

/** A file's last 4 KiB hold that text: what wrote it came to its end. */
export interface ExpectEndingStep extends StepBase {
  do: 'expect-ending';
  path: string;
  text: string;
  failure: StartStep['failure'];
}

/** Runs a program that lists backups as JSON: one of them must be new (`ctime`, seconds, from `since` on) and not empty. */
export interface ExpectListedStep extends StepBase {
  do: 'expect-listed';
  argv: [string, ...string[]];
  /** ISO 8601. */
  since: string;
  backup: { kind: string; name: string };
  timeout: Milliseconds;
  /** What tells the file of a listed backup (its id is added); the file is then read back by what can read its kind. */
  read?: { path: [string, ...string[]]; timeout: Milliseconds; stallTimeout: Milliseconds };
}

/** Takes backups away that the rules don't keep; see keep.ts. What was interrupted long ago goes too. */
export interface PruneStep extends StepBase {
  do: 'prune';
  folder: string;
  rules: RetentionRules;
  minKeep: number;
  /**
   * Where they lie elsewhere (in restic's repository, on another host): what takes those away that are not kept. `each` is
   * added to its argv for each, with `{name}` and `{snapshot}` filled in, then `last`. `empty`: a folder that is made first.
   * `also`: names of what was left unfinished there.
   */
  forget?: { step: StartStep; each: string[]; last: string[]; empty?: string; also?: string[] };
}
