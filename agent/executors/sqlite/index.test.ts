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
  it('copies inside one read transaction, checks the copy in a folder of the agent, and stores it then', async () => {
    const { steps } = await plan(backup());
    const [copy, check, store] = ['copy', 'check', 'store'].map(name =>
      steps.find(step => step.name === name),
    ) as StartStep[];
    const scratch = '/var/lib/chatops/backups/copy-run-00001';
    expect(copy?.argv.slice(0, 10)).toEqual([
      'sqlite3',
      ...['-batch', '-bail', '-init', '/dev/null', '-readonly', '-nofollow', '/srv/app/app.db'],
      ...['.timeout 30000', 'BEGIN;'],
    ]);
    expect(copy?.argv.slice(-2)).toEqual([`.backup '${scratch}/app.db'`, 'COMMIT;']);
    expect(copy?.opens).toEqual([{ path: '/srv/app/app.db', root: '/srv', as: 'name' }]);
    expect(check?.argv).toContain(`file:${scratch}/app.db?mode=ro&immutable=1`);
    const partial = '/mnt/backup/app/app/.20261121T060000.123Z.partial.run-00001';
    expect(store).toMatchObject({ stdinFrom: `${scratch}/app.db`, stdoutTo: `${partial}/app.db` });
    expect(store?.opens).toContainEqual(expect.objectContaining({ path: partial, root: '/mnt/backup' }));
  });

  it.each([
    ['a missing file', { source: '/srv/app/other.db' }],
    ['a name with a quote, which would end sqlite3’s own command', { source: "/srv/app/o'db" }],
  ])('is refused for %s', async (_, changes) => {
    await expect(plan(backup(changes))).rejects.toMatchObject({ code: 'source-missing' });
    await expect(plan(backup(changes))).rejects.toBeInstanceOf(Failure);
  });
});
