import { describe, expect, it } from 'vitest';
import type { Step } from '../../plan/plan.ts';
import { createContext, createStep } from '../exam.ts';
import type { Intent } from '../executor.ts';
import { type DumpStages, planDump } from './dump.ts';
import type { BackupGroup } from './group.ts';

const stage = (name: string) => ({ steps: [createStep(name)], cleanup: [createStep(`clean ${name}`)] });
const names = (steps: Step[]) => steps.map(({ name }) => name);
const group: BackupGroup = {
  destination: { path: '/mnt/backup', minFree: 100 },
  ...{
    folder: '/mnt/backup/nightly',
    root: '/mnt/backup',
    name: 'nightly',
    earlier: [],
    newName: 'new',
    partial: '.new.partial',
  },
  last: { kind: 'sqlite', name: 'old', of: 'nightly', run: 'r', at: '2026-11-20T06:00:00.000Z', bytes: 1000, files: 1 },
};
const manifest: DumpStages['manifest'] = { kind: 'sqlite', source: '/srv/a.db', checks: ['sha256'] };
const plan = (stages: Partial<DumpStages> = {}) =>
  planDump({ notes: 'a note' }, createContext({} as Intent), group, {
    ...{ source: 'a.db', space: 2, dump: stage('dump'), check: stage('check'), manifest },
    ...stages,
  });

describe('a plan of a database backup', () => {
  it('publishes a copy after its checks, prunes after that, and starts services before the checks', () => {
    const services = {
      quiesce: [createStep('stop')],
      resume: [createStep('start')],
      cleanup: [createStep('start in any case')],
      note: '',
    };
    const { steps, undo, cleanup } = plan({ services, drill: stage('load'), pack: [createStep('compress')] });
    expect(names(steps)).toEqual([
      'check the destination',
      ...['stop', 'dump', 'start'],
      ...['check', 'load', 'compress'],
      ...['read back', 'prune'],
    ]);
    expect(undo).toEqual([]);
    expect(names(cleanup)).toEqual([
      'clean load',
      'clear away what is unfinished',
      ...['clean dump', 'start in any case', 'clean check'],
    ]);
  });

  it('asks for the space of the last backup times the factor, and for the reserve of the destination', () => {
    expect(plan().steps[0]).toMatchObject({ needs: 2100, folder: '/mnt/backup/nightly/.new.partial' });
    // The step that packs an archive creates it.
    expect(plan({ partialFrom: 'pack' }).steps[0]).toMatchObject({ folder: '/mnt/backup/nightly' });
  });

  it('records a drill in the manifest only if there was one', () => {
    const manifestOf = (stages?: Partial<DumpStages>) => plan(stages).steps.find(({ name }) => name === 'read back');
    expect(manifestOf()).toMatchObject({ manifest: { checks: ['sha256'], notes: 'a note', run: 'run-00001' } });
    expect(manifestOf({ drill: stage('load') })).toMatchObject({
      manifest: { checks: ['sha256', 'loaded and counted'] },
    });
  });
});
