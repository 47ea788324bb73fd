import { describe, expect, it } from 'vitest';
import type { HostReader, Step } from '../../plan/plan.ts';
import { createContext, createHost, createStep, failureCodeOf } from '../exam.ts';
import { planRestore, type RestoreTarget } from './restore.ts';

const names = (steps: Step[]) => steps.map(({ name }) => name);
const host = createHost({
  list: async () => ['one', 'one.json'],
  read: async () =>
    JSON.stringify({
      ...{ kind: 'sqlite', name: 'nightly', run: 'run-00000', source: '/srv/a.db', at: '2026-11-20T06:00:00.000Z' },
      ...{ bytes: 5, files: 1, sha256: 'a'.repeat(64) },
    }),
  engine: async path =>
    path.startsWith('/containers/json')
      ? [{ Id: 'a1', State: 'running', Labels: { 'com.docker.compose.service': 'app' } }]
      : { Id: 'c1', Image: 'i', State: { Running: true, Paused: false } },
});
const intent = {
  ...({ action: 'restore', of: { kind: 'sqlite', name: 'nightly' }, from: '/mnt/backup/', to: '/srv/a.db' } as const),
  ...{ stack: 'shop', stop_services: ['app'] },
};
const NO_DATA: RestoreTarget = { overwrites: undefined };
const plan = (changes: object = {}, target = NO_DATA, reader: HostReader = host) =>
  planRestore({ ...intent, ...changes }, createContext(intent), reader, {
    kind: 'sqlite',
    find: () => target,
    plan: () => ({
      ...{ target: 'a.db', subject: '/srv/a.db', kept: 'the old file is kept' },
      ...{ prepare: [createStep('copy')], swap: [createStep('save'), createStep('swap')], changesFrom: 'swap' },
      ...{ rollback: [createStep('swap back')], cleanup: [createStep('clear away')] },
    }),
  });

describe('a plan of a database restore', () => {
  it('checks the backup before it stops a service, and the services before it ends', async () => {
    const { steps, changes, summary } = await plan();
    expect(names(steps)).toEqual([
      ...['check the backup', 'copy'],
      ...['stop', 'save', 'swap', 'start'],
      'wait until healthy',
    ]);
    expect(changes).toEqual([{ subject: '/srv/a.db', change: 'write', details: ['one'] }]);
    expect(summary).toBe('5 bytes of 2026-11-20T06:00:00.000Z; the old file is kept.');
  });

  it('rolls back with stopped services, and only if data was changed', async () => {
    const { undo } = await plan();
    expect(names(undo)).toEqual(['stop again', 'swap back', 'start again', 'wait until healthy again']);
    expect(new Set(undo.map(({ ifBegan }) => ifBegan))).toEqual(new Set(['swap']));
    expect((await plan({ on_failure: 'stop' })).undo).toEqual([]);
  });

  it('starts the services if it ended before it did', async () => {
    const { cleanup } = await plan();
    expect(names(cleanup)).toEqual(['clear away', 'start in any case']);
    expect(cleanup.at(-1)).toMatchObject({ ifBegan: 'stop', unlessBegan: 'start' });
  });

  it('stops the container that uses the data', async () => {
    const { steps } = await plan({ stack: undefined, stop_services: undefined }, { ...NO_DATA, container: 'app' });
    expect(names(steps)).toEqual(['check the backup', 'copy', 'stop', 'save', 'swap', 'start']);
    expect(steps[2]).toMatchObject({ argv: ['docker', 'container', 'stop', 'c1'] });
  });

  it('replaces data only if the intent confirms it', async () => {
    const target = { overwrites: { message: 'a.db exists.', remedy: 'Confirm it.' } };
    expect(await failureCodeOf(plan({}, target))).toBe('overwrite-unconfirmed');
    expect(await failureCodeOf(plan({ confirm_overwrite: true }, target))).toBe('planned');
  });

  it('refuses a backup that is missing', async () => {
    const empty = createHost({ list: async () => [] });
    expect(await failureCodeOf(plan({}, NO_DATA, empty))).toBe('backup-unknown');
  });
});
