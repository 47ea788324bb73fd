import { describe, expect, it } from 'vitest';
import { Failure } from '../../plan/failure.ts';
import type { StartStep } from '../../plan/plan.ts';
import { createContext, createHost, testExecutorContract } from '../exam.ts';
import type { Intent } from '../executor.ts';
import { sqlite } from './index.ts';

const backup = (changes: object = {}): Intent =>
  ({
    action: 'backup',
    database_type: 'sqlite',
    source: '/srv/app/app.db',
    destination: '/mnt/backup/app',
    ...changes,
  }) as Intent;
const context = (intent: Intent) =>
  createContext(intent, {
    name: 'app',
    site: { backups: { sources: ['/srv'], destinations: [{ path: '/mnt/backup', minFree: 1 }] } },
  });
const host = createHost({ list: async folder => (folder === '/srv/app' ? ['app.db', "o'db"] : null) });
const plan = (intent: Intent) => sqlite.plan(intent, context(intent), host);

testExecutorContract(sqlite, [{ name: 'a database', intent: backup(), context: context(backup()), look: host }]);

describe('a backup of a SQLite database', () => {
  it('copies inside one read transaction, and checks the copy as an immutable file', async () => {
    const { steps } = await plan(backup());
    const [, copy, check] = steps as StartStep[];
    expect(copy?.argv).toEqual([
      'sqlite3',
      ...['-batch', '-bail', '-init', '/dev/null', '-readonly', '/srv/app/app.db'],
      ...['.timeout 30000', 'BEGIN;', 'SELECT 1 FROM sqlite_master LIMIT 1;'],
      ".backup '/mnt/backup/app/app/.20261121T060000.123Z.partial.run-00001/app.db'",
      'COMMIT;',
    ]);
    expect(check?.argv).toContain(
      'file:/mnt/backup/app/app/.20261121T060000.123Z.partial.run-00001/app.db?mode=ro&immutable=1',
    );
  });

  it.each([
    ['a missing file', { source: '/srv/app/other.db' }],
    ['a name with a quote, which would end sqlite3’s own command', { source: "/srv/app/o'db" }],
  ])('is refused for %s', async (_, changes) => {
    await expect(plan(backup(changes))).rejects.toMatchObject({ code: 'source-missing' });
    await expect(plan(backup(changes))).rejects.toBeInstanceOf(Failure);
  });
});
