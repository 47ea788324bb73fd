import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyRetention, type RetentionCandidate, type RetentionRules } from './retention.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const taken = (at: string, changes: Partial<RetentionCandidate> = {}): RetentionCandidate => ({
  name: at,
  at,
  verified: true,
  ...changes,
});
const daily = (days: number, changes: Partial<RetentionCandidate> = {}) =>
  Array.from({ length: days }, (_, n) =>
    taken(new Date(NOW.getTime() - n * 86_400_000 - 3_600_000).toISOString(), changes),
  );
const kept = (backups: RetentionCandidate[], rules: RetentionRules, minKeep = 1, now = NOW) =>
  applyRetention(backups, rules, minKeep, now)
    .filter(({ keep }) => keep)
    .map(({ name }) => name);

describe('what is kept', () => {
  it('is what the rules say, one a bucket, and no bucket is counted twice', () => {
    const backups = daily(60);
    expect(kept(backups, { last: 3 })).toEqual(backups.slice(0, 3).map(({ name }) => name));
    const verdicts = applyRetention(backups, { last: 1, daily: 3, weekly: 2, monthly: 1 }, 1, NOW).filter(
      ({ keep }) => keep,
    );
    expect(verdicts.map(({ reason }) => reason.split(' ')[0])).toEqual([
      'the',
      'daily',
      'daily',
      'daily',
      'weekly',
      'weekly',
      'monthly',
    ]);
    const twice = [taken('2026-11-20T01:00:00Z'), taken('2026-11-20T23:00:00Z'), taken('2026-11-19T01:00:00Z')];
    expect(kept(twice, { daily: 2 })).toEqual(['2026-11-20T23:00:00Z', '2026-11-19T01:00:00Z']);
  });

  it('counts days that have backups, so that an outage ages nothing out', () => {
    const old = daily(3).map(one => ({
      ...one,
      at: one.at.replace('2026', '2024'),
      name: one.name.replace('2026', '2024'),
    }));
    expect(kept(old, { daily: 3 })).toHaveLength(3);
  });

  it.each<[string, RetentionCandidate[], RetentionRules, Date?]>([
    ['without a rule', daily(5), {}],
    ['without a verified one', daily(5, { verified: false }), { last: 1 }],
    ['with a clock that is wrong', [...daily(5), taken('2027-01-01T00:00:00Z')], { last: 1 }],
  ])('is everything %s', (_, backups, rules) => {
    expect(kept(backups, rules)).toHaveLength(backups.length);
  });

  it('never loses protected ones, the newest verified ones, or the newest at all', () => {
    const backups = daily(10).map((one, index) => ({ ...one, verified: index !== 0, protected: index === 9 }));
    const names = backups.map(({ name }) => name);
    expect(kept(backups, { last: 1 }, 3)).toEqual([...names.slice(0, 4), names[9]]);
  });

  it('holds for any history: guards hold, and what is left is left by a second look', () => {
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
          const backups = made.map(({ at, ...rest }) => taken(at.toISOString(), rest));
          const stays = new Set(kept(backups, rule, minKeep));
          const newest = backups.toSorted((a, b) => (a.at < b.at ? 1 : -1));
          for (const one of backups) if (one.protected) expect(stays).toContain(one.name);
          for (const one of newest.filter(({ verified }) => verified).slice(0, Math.max(1, minKeep)))
            expect(stays).toContain(one.name);
          if (newest[0]) expect(stays).toContain(newest[0].name);
          const left = backups.filter(({ name }) => stays.has(name));
          expect(new Set(kept(left, rule, minKeep))).toEqual(stays);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
