import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chainDigest, EMPTY_DIGEST } from '../../protocol/event.ts';
import { Database } from './database.ts';
import { RunStore } from './runs.ts';

const NODE = process.execPath;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-store-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the run store', () => {
  const run = {
    id: 'run-00001',
    digest: 'd',
    type: 'run',
    trust: 't',
    keyId: 'k',
    address: 'a',
    command: '{}',
    title: 'rollout on web',
    at: 't',
  };

  it('numbers events without a gap, and encodes the same frames again from the stored events', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    store.begin(run);
    const log = join(dir, 'log');
    writeFileSync(log, 'héllo wörld');
    const frames = [
      store.append(run.id, { kind: 'note', level: 'info', text: 'x' }, 't1').frame,
      store.append(
        run.id,
        {
          kind: 'output',
          document: 1,
          step: 's',
          bytes: Buffer.from('héllo'),
          source: { file: log, offset: 0, length: 6 },
        },
        't2',
      ).frame,
      store.append(run.id, { kind: 'output', document: 1, step: 's', text: 'no file' }, 't3').frame,
    ];
    expect(store.frames(run.id, 0, 10)).toEqual(frames.map((frame, index) => ({ n: index + 1, frame })));
    expect(store.frames(run.id, 1, 1)).toEqual([{ n: 2, frame: frames[1] }]);
    expect(store.find(run.id)).toMatchObject({ events: 3, head: frames.reduce(chainDigest, EMPTY_DIGEST) });
    store.close();
  });

  it('still holds every reported event after a kill -9', { timeout: 20_000 }, async () => {
    const writer = `
      import { Database } from '${join(import.meta.dirname, 'database.ts')}';
      import { RunStore } from '${join(import.meta.dirname, 'runs.ts')}';
      const store = new RunStore(new Database('${join(dir, 'db')}'));
      store.begin(${JSON.stringify(run)});
      for (;;) console.log(store.append('run-00001', { kind: 'note', level: 'info', text: 'x' }, 't').event.n);`;
    const child = spawn(NODE, ['--input-type=module-typescript', '--eval', writer], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let reported = '';
    child.stdout.on('data', chunk => {
      reported += String(chunk);
      if (reported.length > 2000) child.kill('SIGKILL');
    });
    await once(child, 'close');
    const last = Number(reported.slice(0, reported.lastIndexOf('\n')).split('\n').at(-1));
    const store = new RunStore(new Database(join(dir, 'db')));
    const frames = store.frames(run.id, 0, 100_000);
    expect(last).toBeGreaterThan(100);
    expect(frames.length).toBeGreaterThanOrEqual(last);
    expect(frames.map(({ n }) => n)).toEqual(frames.map((_, index) => index + 1));
    expect(store.find(run.id)).toMatchObject({
      events: frames.length,
      head: frames.map(({ frame }) => frame).reduce(chainDigest, EMPTY_DIGEST),
    });
    expect(store.open().map(({ id }) => id)).toEqual([run.id]);
    store.close();
  });

  const addEnded = (store: RunStore, id: string, at: string, bytes: number) => {
    store.begin({ ...run, id, at });
    store.append(id, { kind: 'note', level: 'info', text: 'x' }, at);
    store.end(id, 'succeeded', '{}', at, { bytes });
  };

  it('finds the oldest runs that exceed a limit but none in progress, and deletes them with their events', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    store.begin({ ...run, id: 'run-inflight', at: '2026-01-01' });
    for (let n = 2; n <= 9; n++) addEnded(store, `run-0000${n}`, `2026-01-0${n}`, 100);
    const all = { before: '', runs: 100, bytes: 10_000 };
    expect(store.findPrunable(all, 100)).toEqual([]);
    expect(store.findPrunable({ ...all, before: '2026-01-04' }, 100)).toEqual(['run-00002', 'run-00003']);
    expect(store.findPrunable({ ...all, runs: 6 }, 100)).toEqual(['run-00002', 'run-00003', 'run-00004']);
    expect(store.findPrunable({ ...all, bytes: 750 }, 100)).toEqual(['run-00002']);
    expect(store.findPrunable({ ...all, runs: 1 }, 2)).toEqual(['run-00002', 'run-00003']);
    store.delete('run-00002');
    expect({ run: store.find('run-00002'), frames: store.frames('run-00002', 0, 9) }).toEqual({
      run: undefined,
      frames: [],
    });
    expect(store.list(3).map(({ id }) => id)).toEqual(['run-00009', 'run-00008', 'run-00007']);
    expect(store.list(100, 'run-00004').map(({ id }) => id)).toEqual(['run-00003', 'run-inflight']);
    store.close();
  });

  it('returns the progress of a run: plans, results, steps, and the reported bytes of a step’s log', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    store.begin(run);
    const plan = { title: 't', summary: 's', changes: [], steps: [], undo: [], cleanup: [] };
    store.plan(run.id, 1, plan);
    store.append(run.id, { kind: 'planned', document: 1, title: 't', summary: 's', steps: [], changes: [] }, 't');
    const place = { document: 1, index: 1 };
    const started = { kind: 'step-started', document: 1, step: 'a', text: 'a', phase: 'do' } as const;
    store.append(run.id, { ...started, mark: { ...place, step: 'a', phase: 'do' } }, 't');
    const finished = { kind: 'step-finished', document: 1, step: 'a', outcome: 'succeeded', ms: 7 } as const;
    const ending = { outcome: 'succeeded', exit: 0 } as const;
    store.append(run.id, { ...finished, mark: { ...place, ms: 7, ending } }, 't');
    store.append(run.id, { ...started, step: 'b', mark: { ...place, index: 2, step: 'b', phase: 'do' } }, 't');
    const log = join(dir, '1-2.log');
    writeFileSync(log, 'abcdef');
    for (const offset of [0, 3]) {
      const bytes = Buffer.from('abc');
      store.append(
        run.id,
        { kind: 'output', document: 1, step: 'b', bytes, source: { file: log, offset, length: 3 } },
        't',
      );
    }
    const done = { kind: 'document-finished', document: 2, outcome: 'failed' } as const;
    store.append(run.id, done, 't', { outcome: 'failed', code: 'stack-missing' });
    store.close();
    const next = new RunStore(new Database(join(dir, 'db')));
    expect([...next.progress(run.id)]).toEqual([
      [
        1,
        {
          plan,
          ending: undefined,
          wasPlanned: true,
          steps: new Map<number, object>([
            [1, { ending, ms: 7 }],
            [2, { offset: 6 }],
          ]),
        },
      ],
      [
        2,
        { plan: undefined, ending: { outcome: 'failed', code: 'stack-missing' }, wasPlanned: false, steps: new Map() },
      ],
    ]);
    next.close();
  });

  it('can be opened by one agent only', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    expect(() => new RunStore(new Database(join(dir, 'db'), 100))).toThrow(/another agent runs with this state_dir/);
    store.close();
    new RunStore(new Database(join(dir, 'db'), 100)).close();
  });

  it('refuses a database of a newer version', () => {
    new RunStore(new Database(join(dir, 'db'))).close();
    execFileSync(NODE, [
      '--eval',
      `new (require('node:sqlite').DatabaseSync)('${join(dir, 'db')}').exec('PRAGMA user_version = 99')`,
    ]);
    expect(() => new RunStore(new Database(join(dir, 'db')))).toThrow(/newer/);
  });
});
