import { Failure } from '../../plan/failure.ts';
import type { RestorePoint } from '../../plan/plan.ts';
import { type Intent, type PlanContext, parseDuration } from '../executor.ts';

type RolloutIntent = Extract<Intent, { action: 'rollout' }>;

const DEFAULT_MAX_AGE = '24h';

/**
 * Returns the backups that a rollout requires: those of `backup_before` and `needs`, verified in this run or (for `needs`)
 * recently. Empty if it names none, or if the run executes nothing. Throws Failure `backup-needed`.
 */
export function findRestorePoints(
  intent: RolloutIntent,
  { backups, run, at, nonBackupIds = [] }: PlanContext,
): RestorePoint[] {
  if (!backups) return [];
  const inThisRun = (name: string) =>
    backups.filter(one => one.run === run && (one.name === name || one.document === name) && one.verifiedAt);
  const points: RestorePoint[] = [];
  const { backup_before: before, needs = [], max_age: maxAge = DEFAULT_MAX_AGE } = intent;
  if (before !== undefined) {
    const found = inThisRun(before);
    if (found.length === 0) {
      throw new Failure(
        'backup-needed',
        `The backup "${before}" was not made and verified in this run, and the rollout requires it. Nothing was changed.`,
        `Send the intent file ${before} before this one. The action and "chatops run" do so by themselves if the file is next to this one and holds a backup.`,
      );
    }
    points.push(...found);
  }
  for (const name of needs) {
    if (nonBackupIds.includes(name)) continue;
    const known = inThisRun(name).concat(backups.filter(one => one.name === name));
    const oldestAllowed = Date.parse(at) - parseDuration(maxAge);
    const found = known.find(one => one.verifiedAt !== undefined && Date.parse(one.verifiedAt) >= oldestAllowed);
    if (!found) {
      const newest = known.find(one => one.verifiedAt !== undefined)?.verifiedAt;
      throw new Failure(
        'backup-needed',
        newest === undefined
          ? `The rollout needs the backup "${name}", but this host knows no verified one. Nothing was changed.`
          : `The rollout needs the backup "${name}" not older than ${maxAge}; the last one was verified at ${newest}. Nothing was changed.`,
        'Make the backup (put its document before this one in the file), or correct its name.',
      );
    }
    points.push(found);
  }
  return points.map(({ kind, name, archive, at: madeAt, run: madeBy }) => ({
    kind,
    name,
    archive,
    at: madeAt,
    run: madeBy,
  }));
}
