import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chainDigest, EMPTY_DIGEST } from '../../protocol/event.ts';
import { LockQueue } from '../runs/lock-queue.ts';
import { countWholeCharacters, tailLog } from '../system/log-tail.ts';
import { Database } from './database.ts';
import { RunStore } from './runs.ts';

const NODE = process.execPath;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-store-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the tail of a growing file', () => {
  it('cuts at character borders', () => {
    const text = Buffer.from('aé€😀');
    for (let length = 0; length <= text.length; length++) {
      const whole = countWholeCharacters(text, length);
      expect(text.toString('utf8', 0, whole)).not.toContain('\ufffd');
      expect(length - whole).toBeLessThan(4);
    }
    expect(countWholeCharacters(Buffer.from([0xff, 0xff]), 2)).toBe(2);
    expect(countWholeCharacters(Buffer.from([0x80, 0x80, 0x80, 0x80]), 4)).toBe(4);
  });

  it('ends with the file’s last byte, whatever it is', async () => {
    const file = join(dir, 'log');
    writeFileSync(file, Buffer.from([0x61, 0xc3]));
    let text = '';
    for await (const piece of tailLog(file, Promise.resolve())) text += piece.bytes.toString();
    expect(text).toBe('a\ufffd');
  });
});

describe('the store', () => {
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

  it('numbers events without a gap, and makes the same frames again from what it stored', () => {
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

  it('holds after a kill -9 in the middle what had been told', { timeout: 20_000 }, async () => {
    const writer = `
      import { Database } from '${join(import.meta.dirname, 'database.ts')}';
      import { RunStore } from '${join(import.meta.dirname, 'runs.ts')}';
      const store = new RunStore(new Database('${join(dir, 'db')}'));
      store.begin(${JSON.stringify(run)});
      for (;;) console.log(store.append('run-00001', { kind: 'note', level: 'info', text: 'x' }, 't').event.n);`;
    const child = spawn(NODE, ['--input-type=module-typescript', '--eval', writer], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let told = '';
    child.stdout.on('data', chunk => {
      told += String(chunk);
      if (told.length > 2000) child.kill('SIGKILL');
    });
    await once(child, 'close');
    const last = Number(told.slice(0, told.lastIndexOf('\n')).split('\n').at(-1));
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

  const ended = (store: RunStore, id: string, at: string, bytes: number) => {
    store.begin({ ...run, id, at });
    store.append(id, { kind: 'note', level: 'info', text: 'x' }, at);
    store.end(id, 'succeeded', '{}', at, bytes);
  };

  it('names the oldest runs that are too old, too many or too large, never one in flight, and forgets them whole', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    store.begin({ ...run, id: 'run-inflight', at: '2026-01-01' });
    for (let n = 2; n <= 9; n++) ended(store, `run-0000${n}`, `2026-01-0${n}`, 100);
    const all = { before: '', runs: 100, bytes: 10_000 };
    expect(store.surplus(all, 100)).toEqual([]);
    expect(store.surplus({ ...all, before: '2026-01-04' }, 100)).toEqual(['run-00002', 'run-00003']);
    expect(store.surplus({ ...all, runs: 6 }, 100)).toEqual(['run-00002', 'run-00003', 'run-00004']);
    expect(store.surplus({ ...all, bytes: 750 }, 100)).toEqual(['run-00002']);
    expect(store.surplus({ ...all, runs: 1 }, 2)).toEqual(['run-00002', 'run-00003']);
    store.forget('run-00002');
    expect([store.find('run-00002'), store.frames('run-00002', 0, 9)]).toEqual([undefined, []]);
    expect(store.list(3).map(({ id }) => id)).toEqual(['run-00009', 'run-00008', 'run-00007']);
    expect(store.list(100, 'run-00004').map(({ id }) => id)).toEqual(['run-00003', 'run-inflight']);
    store.close();
  });

  it('knows how far a run had come: plans, ends, steps, and how much of a step’s output was told', () => {
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
          told: true,
          steps: new Map<number, object>([
            [1, { ending, ms: 7 }],
            [2, { offset: 6 }],
          ]),
        },
      ],
      [2, { plan: undefined, ending: { outcome: 'failed', code: 'stack-missing' }, told: false, steps: new Map() }],
    ]);
    next.close();
  });

  it('is one agent’s alone', () => {
    const store = new RunStore(new Database(join(dir, 'db')));
    expect(() => new RunStore(new Database(join(dir, 'db'), 100))).toThrow(/another agent runs with this state_dir/);
    store.close();
    new RunStore(new Database(join(dir, 'db'), 100)).close();
  });

  it('refuses a file of a newer version', () => {
    new RunStore(new Database(join(dir, 'db'))).close();
    execFileSync(NODE, [
      '--eval',
      `new (require('node:sqlite').DatabaseSync)('${join(dir, 'db')}').exec('PRAGMA user_version = 99')`,
    ]);
    expect(() => new RunStore(new Database(join(dir, 'db')))).toThrow(/newer/);
  });
});

describe('locks', () => {
  it('let one run at a time have a subject, in order of arrival, and say who is before', async () => {
    const locks = new LockQueue(10);
    const order: string[] = [];
    const take = (run: string, subjects: string[]) => {
      const { turn, blockedBy } = locks.take(run, subjects);
      void turn.then(() => order.push(run));
      return blockedBy;
    };
    expect(take('1', ['a'])).toBeUndefined();
    expect(take('2', ['a', 'b'])).toEqual({ run: '1', subject: 'a' });
    expect(take('3', ['b'])).toEqual({ run: '2', subject: 'b' });
    expect(take('4', ['c'])).toBeUndefined();
    await Promise.resolve();
    expect(order).toEqual(['1', '4']);
    locks.release('1', ['a']);
    await Promise.resolve();
    expect(order).toEqual(['1', '4', '2']);
    locks.release('2', ['a', 'b']);
    await Promise.resolve();
    expect(order).toEqual(['1', '4', '2', '3']);
  });

  it('hold to the limit, and a run that gives up its place lets others pass', async () => {
    const locks = new LockQueue(1);
    const order: string[] = [];
    for (const run of ['1', '2', '3']) void locks.take(run, [run]).turn.then(() => order.push(run));
    locks.release('2', ['2']);
    await Promise.resolve();
    expect(order).toEqual(['1']);
    locks.release('1', ['1']);
    await Promise.resolve();
    expect(order).toEqual(['1', '3']);
  });
});
