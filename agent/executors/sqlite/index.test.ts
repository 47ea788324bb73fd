import { describe, expect, it } from 'vitest';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, StartStep } from '../../plan/plan.ts';
import { testExecutorContract } from '../exam.ts';
import type { Executor, Intent, PlanContext } from '../executor.ts';
import { sqlite } from './index.ts';

const backup = (changes: object = {}): Intent =>
  ({
    action: 'backup',
    database_type: 'sqlite',
    source: '/srv/app/app.db',
    destination: '/mnt/backup/app',
    ...changes,
  }) as Intent;
const context = (intent: Intent): PlanContext => ({
  document: { name: 'app', document: 1, documents: 1, intent },
  run: 'run-00001',
  at: '2026-11-21T06:00:00.000Z',
  site: {
    stacksRoot: '/opt/stacks',
    memory: '/m',
    docker: 'docker',
    verify: [],
    compose: { binds: [], ports: [1, 65535], socket: '/s', grantsOf: () => [] },
    proxmox: '',
    backups: {
      sources: ['/srv'],
      destinations: [{ path: '/mnt/backup', minFree: 1 }],
      remotes: [],
      databases: [],
      records: '/var/lib/chatops/backups',
    },
  },
  files: [],
  wantsDiff: false,
});
const look: HostReader = {
  list: async folder => (folder === '/srv/app' ? ['app.db', "o'db"] : null),
  read: async () => null,
  ask: async () => null,
  engine: async () => null,
};
const plan = (intent: Intent) => (sqlite as unknown as Executor).plan(intent, context(intent), look);

testExecutorContract(sqlite as unknown as Executor, [
  { name: 'a database', intent: backup(), context: context(backup()), look },
]);

describe('a backup of a database', () => {
  it('copies inside one read transaction, and checks the copy as nobody writes to it', async () => {
    const { steps } = await plan(backup());
    const [, copy, check] = steps as StartStep[];
    expect(copy?.argv).toEqual([
      'sqlite3',
      ...['-batch', '-bail', '-init', '/dev/null', '-readonly', '/srv/app/app.db'],
      ...['.timeout 30000', 'BEGIN;', 'SELECT 1 FROM sqlite_master LIMIT 1;'],
      ".backup '/mnt/backup/app/app/.20261121T060000.000Z.partial.run-00001/app.db'",
      'COMMIT;',
    ]);
    expect(check?.argv).toContain(
      'file:/mnt/backup/app/app/.20261121T060000.000Z.partial.run-00001/app.db?mode=ro&immutable=1',
    );
  });

  it.each([
    ['that is not there', { source: '/srv/app/other.db' }],
    ['whose name would end sqlite3’s own command', { source: "/srv/app/o'db" }],
  ])('%s is refused', async (_, changes) => {
    await expect(plan(backup(changes))).rejects.toMatchObject({ code: 'source-missing' });
    await expect(plan(backup(changes))).rejects.toBeInstanceOf(Failure);
  });
});
