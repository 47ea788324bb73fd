/** The facts of a backup that the rules use. */
export interface RetentionCandidate {
  name: string;
  /** The time of the backup, ISO 8601. */
  at: string;
  verified: boolean;
  protected?: boolean;
}

/** The number of backups that each rule keeps: the newest of a bucket. A backup that an earlier rule keeps is not counted again. */
export interface RetentionRules {
  last?: number | undefined;
  daily?: number | undefined;
  weekly?: number | undefined;
  monthly?: number | undefined;
  yearly?: number | undefined;
}

export interface RetentionDecision {
  name: string;
  keep: boolean;
  reason: string;
}

const HOUR = 3_600_000;

/** In the order of Proxmox: each rule applies to the backups that the rules before it do not keep. Buckets are in UTC. */
const BUCKETS: [keyof RetentionRules, (at: Date) => string][] = [
  ['last', at => at.toISOString()],
  ['daily', at => at.toISOString().slice(0, 10)],
  ['weekly', weekOf],
  ['monthly', at => at.toISOString().slice(0, 7)],
  ['yearly', at => at.toISOString().slice(0, 4)],
];

/**
 * Decides which backups are kept, and why, the newest first. Safeguards: protected backups and the newest `minKeep` verified
 * ones are kept. All are kept if there is no rule, if none is verified, or if the time of one is in the future.
 */
export function applyRetention(
  backups: RetentionCandidate[],
  rules: RetentionRules,
  minKeep: number,
  now: Date,
): RetentionDecision[] {
  const newestFirst = backups.toSorted((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
  const all = (reason: string) => newestFirst.map(({ name }) => ({ name, keep: true, reason }));
  if (!Object.values(rules).some(count => count !== undefined && count > 0)) return all('there is no retention rule');
  if (!newestFirst.some(({ verified }) => verified)) return all('no backup has been verified');
  if (newestFirst.some(({ at }) => Date.parse(at) > now.getTime() + HOUR))
    return all('a backup has a time in the future: a clock is wrong');
  const reasons = new Map<string, string>();
  const verified = newestFirst.filter(one => one.verified);
  for (const one of newestFirst) {
    if (one.protected) reasons.set(one.name, 'protected');
  }
  const newest = newestFirst[0];
  if (newest) reasons.set(newest.name, 'the newest');
  for (const one of verified.slice(0, Math.max(1, minKeep)))
    if (!reasons.has(one.name)) reasons.set(one.name, 'among the newest verified');
  // An unverified backup takes no bucket: it may not be restorable.
  const byRule = new Set<string>();
  for (const [rule, bucketOf] of BUCKETS) {
    const filled = new Set(verified.filter(one => byRule.has(one.name)).map(one => bucketOf(new Date(one.at))));
    let left = rules[rule] ?? 0;
    for (const one of verified) {
      const bucket = bucketOf(new Date(one.at));
      if (left === 0) break;
      if (byRule.has(one.name) || filled.has(bucket)) continue;
      filled.add(bucket);
      byRule.add(one.name);
      if (!reasons.has(one.name)) reasons.set(one.name, `${rule} ${bucket}`);
      left--;
    }
  }
  return newestFirst.map(({ name, verified: isVerified }) => {
    const reason = reasons.get(name);
    if (reason !== undefined) return { name, keep: true, reason };
    return { name, keep: false, reason: isVerified ? 'no rule keeps it' : 'not verified, and newer ones are' };
  });
}

/** Returns the ISO week: `2026-W47`. */
function weekOf(at: Date): string {
  const thursday = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()));
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7));
  const firstDay = Date.UTC(thursday.getUTCFullYear(), 0, 1);
  const week = Math.ceil(((thursday.getTime() - firstDay) / (24 * HOUR) + 1) / 7);
  return `${thursday.getUTCFullYear()}-W${String(week).padStart(2, '0')}`;
}
