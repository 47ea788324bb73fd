import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyRetention, type RetentionCandidate, type RetentionRules } from './retention.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const backupAt = (at: string, changes: Partial<RetentionCandidate> = {}): RetentionCandidate => ({
  name: at,
  at,
  verified: true,
  ...changes,
});
const daily = (days: number, changes: Partial<RetentionCandidate> = {}) =>
  Array.from({ length: days }, (_, n) =>
    backupAt(new Date(NOW.getTime() - n * 86_400_000 - 3_600_000).toISOString(), changes),
  );
const keptNames = (backups: RetentionCandidate[], rules: RetentionRules, minKeep = 1, now = NOW) =>
  applyRetention(backups, rules, minKeep, now)
    .filter(({ keep }) => keep)
    .map(({ name }) => name);

describe('retention', () => {
  it('keeps one backup a bucket as the rules say, and counts no backup twice', () => {
    const backups = daily(60);
    expect(keptNames(backups, { last: 3 })).toEqual(backups.slice(0, 3).map(({ name }) => name));
    const decisions = applyRetention(backups, { last: 1, daily: 3, weekly: 2, monthly: 1 }, 1, NOW).filter(
      ({ keep }) => keep,
    );
    expect(decisions.map(({ reason }) => reason.split(' ')[0])).toEqual([
      'the',
      'daily',
      'daily',
      'daily',
      'weekly',
      'weekly',
      'monthly',
    ]);
    const twice = [
      backupAt('2026-11-20T01:00:00Z'),
      backupAt('2026-11-20T23:00:00Z'),
      backupAt('2026-11-19T01:00:00Z'),
    ];
    expect(keptNames(twice, { daily: 2 })).toEqual(['2026-11-20T23:00:00Z', '2026-11-19T01:00:00Z']);
  });

  it('counts only days that have backups, so that no backup is too old after an outage', () => {
    const old = daily(3).map(one => ({
      ...one,
      at: one.at.replace('2026', '2024'),
      name: one.name.replace('2026', '2024'),
    }));
    expect(keptNames(old, { daily: 3 })).toHaveLength(3);
  });

  it.each<[string, RetentionCandidate[], RetentionRules, Date?]>([
    ['if there is no rule', daily(5), {}],
    ['if no backup is verified', daily(5, { verified: false }), { last: 1 }],
    ['if a backup has a time in the future', [...daily(5), backupAt('2027-01-01T00:00:00Z')], { last: 1 }],
  ])('keeps all backups %s', (_, backups, rules) => {
    expect(keptNames(backups, rules)).toHaveLength(backups.length);
  });

  it('always keeps protected backups, the newest verified ones, and the newest of all', () => {
    const backups = daily(10).map((one, index) => ({ ...one, verified: index !== 0, protected: index === 9 }));
    const names = backups.map(({ name }) => name);
    expect(keptNames(backups, { last: 1 }, 3)).toEqual([...names.slice(0, 4), names[9]]);
  });

  it('keeps its safeguards for any history, and a second pass removes nothing more', () => {
    const backup = fc.record({
      at: fc.date({ min: new Date('2020-01-01'), max: NOW, noInvalidDate: true }),
      verified: fc.boolean(),
      protected: fc.boolean(),
    });
    const count = fc.option(fc.nat({ max: 5 }), { nil: undefined });
    const rules = fc.record({ last: count, daily: count, weekly: count, monthly: count, yearly: count });
    fc.assert(
      fc.property(
        fc.uniqueArray(backup, { selector: ({ at }) => at.getTime() }),
        rules,
        fc.nat({ max: 4 }),
        (made, rule, minKeep) => {
          const backups = made.map(({ at, ...rest }) => backupAt(at.toISOString(), rest));
          const remaining = new Set(keptNames(backups, rule, minKeep));
          const newest = backups.toSorted((a, b) => (a.at < b.at ? 1 : -1));
          for (const one of backups) if (one.protected) expect(remaining).toContain(one.name);
          for (const one of newest.filter(({ verified }) => verified).slice(0, Math.max(1, minKeep)))
            expect(remaining).toContain(one.name);
          if (newest[0]) expect(remaining).toContain(newest[0].name);
          const left = backups.filter(({ name }) => remaining.has(name));
          expect(new Set(keptNames(left, rule, minKeep))).toEqual(remaining);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
