import type { BackupDescription } from './backup-manifest.ts';
import type { RetentionRules } from './retention.ts';
import type { Milliseconds, StartStep, StepBase } from './start-step.ts';

/** A step on the backups of one name. */
interface GroupStep extends StepBase {
  /** `<destination>/<name>`. */
  folder: string;
  /** The destination: below it no component may be a link. */
  root: string;
}

/** Checks a backup's destination: mounted and marked as agent.yaml says, writable, with enough space. Makes `folder`. */
export interface CheckTargetStep extends StepBase {
  do: 'check-target';
  /** The name in agent.yaml. */
  path: string;
  mount?: { source?: string | undefined; fstype?: string | undefined } | undefined;
  marker?: string | undefined;
  /** The bytes that must be free: the expected size of the backup, and the reserve of the destination. */
  needs: number;
  /** Files must keep their owners there. */
  owners?: true;
  /** A folder of this backup below `path`. */
  folder: string;
  /** `path` is a folder of the agent, which may be missing. */
  own?: true;
}

/** Checks a backup's source, a file or a folder: it exists, is under one of the roots, is not empty, and has not lost more than half its data. */
export interface CheckSourceStep extends StepBase {
  do: 'check-source';
  path: string;
  roots: string[];
  /** The content of the last verified backup; absent: there is none to compare with. */
  last?: { bytes: number; files: number } | undefined;
  acceptShrink: boolean;
  /** It is copied while programs write to it: a database in it is refused. */
  live?: true;
}

/**
 * Compares the copy (an entry of `folder`) with its source where folders changed since the run began, and makes it the same:
 * a program in a container can exchange a folder for a link while rsync copies.
 */
export interface CompareCopyStep extends GroupStep {
  do: 'compare-copy';
  copy: string;
  source: string;
  /** The trusted folder that holds the source. */
  sourceRoot: string;
  /** ISO 8601, by the host's clock. */
  since: string;
  /** The copy keeps the owners of files. */
  owners: boolean;
}

/**
 * Reads back a backup (`partial`, a file or a folder in `folder`): bytes, count and the SHA-256 of each file. Then makes it
 * durable, writes its manifest `<as>.json`, and renames it to `as`.
 */
export interface SealStep extends GroupStep {
  do: 'seal';
  partial: string;
  as: string;
  manifest: BackupDescription;
}

/**
 * Writes the manifest of a snapshot of restic. `partial`, a folder in `folder`, holds restic's answers about it:
 * `snapshots.json` and `stats.json`.
 */
export interface NoteSnapshotStep extends GroupStep {
  do: 'note-snapshot';
  partial: string;
  as: string;
  manifest: BackupDescription;
}

/**
 * Adds up rsync's list of a backup on another host (`<md5> <bytes> <itemized> <path>` a line). Writes the manifest into
 * `folder`; without `manifest`, compares with the one that is stored there.
 */
export interface TallyStep extends GroupStep {
  do: 'tally';
  list: string;
  as: string;
  /** The backup's path, for the receipt. */
  archive: string;
  manifest?: BackupDescription;
}

/** Reads a whole backup again and compares it with its manifest. */
export interface CheckBackupStep extends GroupStep {
  do: 'check-backup';
  backup: string;
  /** The path of a copy that is compared instead. */
  at?: string;
}

/** Exchanges a file or folder: `path` moves to `aside`, `next` to `path`. `back` undoes it. */
export interface SwapStep extends StepBase {
  do: 'swap';
  path: string;
  next: string;
  aside: string;
  /** The trusted folder that holds `path`: below it no component may be a link. */
  root: string;
  /** Endings of side files: they move with their file, so that none stays next to the new one. */
  sides?: string[];
  back?: true;
}

/** Removes a file, or a folder with its content. */
export interface ClearStep extends StepBase {
  do: 'clear';
  path: string;
  /** No component below it may be a link. */
  root: string;
}

/** Records a drill in the backup's manifest, with its duration. `since`: when it started, ISO 8601. */
export interface NoteDrillStep extends GroupStep {
  do: 'note-drill';
  backup: string;
  since: string;
}

/** Checks that the last 4 KiB of a file contain the text which its program writes at the end. */
export interface ExpectEndingStep extends StepBase {
  do: 'expect-ending';
  path: string;
  root: string;
  text: string;
  failure: StartStep['failure'];
}

/** Runs a program that lists backups as JSON: one must be new (`ctime` in seconds, not before `since`) and not empty. */
export interface ExpectListedStep extends StepBase {
  do: 'expect-listed';
  argv: [string, ...string[]];
  /** ISO 8601. */
  since: string;
  backup: { kind: string; name: string };
  timeout: Milliseconds;
  /** The program that prints the path of a listed backup (its id is appended). The step then reads that file back. */
  read?: { path: [string, ...string[]]; timeout: Milliseconds; stallTimeout: Milliseconds };
}

/** Removes the backups that no rule keeps (retention.ts), and partial backups of interrupted runs that are old. */
export interface PruneStep extends GroupStep {
  do: 'prune';
  rules: RetentionRules;
  minKeep: number;
  /**
   * Removes them elsewhere: in a restic repository, on another host. `each` is appended to the argv of `step` for each backup,
   * with `{name}` and `{snapshot}` filled in, then `last`. `empty`: a folder that is made first. `also`: the names of
   * unfinished backups there.
   */
  forget?: { step: StartStep; each: string[]; last: string[]; empty?: string; also?: string[] };
}
