import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { World } from './stand/world.ts';

/** Number of rows with a filler. The writer then overwrites them, so the database stays at about 40 MB. */
const FULL_ROWS = 60_000;
let world: World;
let database: string;
let writer: ChildProcess;
beforeAll(async () => {
  world = new World();
  mkdirSync(join(world.dir, 'nas'));
  mkdirSync(join(world.dir, 'data'));
  database = join(world.dir, 'data', 'app library.db');
  await world.host.start({
    backups: { sources: [join(world.dir, 'data')], destinations: [{ path: join(world.dir, 'nas'), min_free: '1MiB' }] },
  });
  const code = `
    const db = new (require('node:sqlite').DatabaseSync)(${JSON.stringify(database)});
    db.exec('PRAGMA journal_mode = WAL; CREATE TABLE a (n INTEGER, filler BLOB); CREATE TABLE b (n INTEGER);');
    const a = db.prepare('INSERT INTO a VALUES (?, randomblob(?))'), b = db.prepare('INSERT INTO b VALUES (?)');
    const again = db.prepare('UPDATE a SET filler = randomblob(500) WHERE rowid > ? AND rowid <= ?');
    console.log('ready');
    for (let n = 0; ; ) {
      db.exec('BEGIN');
      const isFull = n >= ${FULL_ROWS}, old = n % ${FULL_ROWS};
      for (let i = 0; i < 200; i++, n++) { a.run(n, isFull ? 0 : 500); b.run(n); }
      if (isFull) again.run(old, old + 200);
      db.exec('COMMIT');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }`;
  writer = spawn(process.execPath, ['--eval', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(writer.stdout as NonNullable<typeof writer.stdout>, 'data');
});
afterAll(async () => {
  writer.kill('SIGKILL');
  await world[Symbol.asyncDispose]();
});

function intent(more = '', source = database): string {
  const file = join(world.dir, 'app.yaml');
  const destination = join(world.dir, 'nas', 'app');
  writeFileSync(
    file,
    `action: backup\ndatabase_type: sqlite\nsource: ${JSON.stringify(source)}\ndestination: ${destination}\n${more}`,
  );
  return file;
}
const backup = (more?: string, source?: string) => world.host.chatops(['run', intent(more, source)]);
const folder = () => join(world.dir, 'nas', 'app', 'app');
const copies = () =>
  readdirSync(folder())
    .filter(name => /^\d{8}T[\d.]+Z$/.test(name))
    .sort();

describe('a backup of a SQLite database', () => {
  it('makes 30 consistent SQLite backups out of 30 during constant writes', { timeout: 480_000 }, async () => {
    const counts: number[] = [];
    for (let n = 0; n < 30; n++) {
      const done = await backup();
      expect(done.code, done.stdout + done.stderr).toBe(0);
      const copy = new DatabaseSync(join(folder(), copies().at(-1) ?? '', 'app library.db'), { readOnly: true });
      const { a, b } = copy.prepare('SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b').get() as {
        a: number;
        b: number;
      };
      expect(copy.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
      copy.close();
      expect({ rowsOfPartialTransaction: a % 200, rowsOfB: b }).toEqual({ rowsOfPartialTransaction: 0, rowsOfB: a });
      counts.push(a);
    }
    expect(new Set(copies()).size).toBe(30);
    expect(counts).toEqual(counts.toSorted((x, y) => x - y));
    expect(counts.at(-1)).toBeGreaterThan(counts[0] ?? 0);
  });

  it('leaves no side files next to a SQLite backup, and applies the retention rules', async () => {
    const last = copies().at(-1) ?? '';
    const done = await backup('keep: {last: 5}\nmin_keep: 1\n');
    expect({ exit: done.code, copiesCount: copies().length }, done.stdout).toEqual({ exit: 0, copiesCount: 5 });
    expect(readdirSync(join(folder(), copies().at(-1) ?? ''))).toEqual(['app library.db']);
    expect(copies()).toContain(last);
  });

  it('fails for a source that is missing, empty or not a database, and keeps no backup', async () => {
    const other = join(world.dir, 'data', 'other.db');
    writeFileSync(
      other,
      'this is a text, and long enough to be looked at as a header of a database file, which it is not\n'.repeat(9),
    );
    const before = copies();
    for (const [source, code] of [
      [other, 'copy-failed'],
      [join(world.dir, 'data', 'nowhere.db'), 'source-missing'],
    ] as const) {
      const done = await backup('', source);
      expect({ exit: done.code, reportsCode: done.stdout.includes(code) }, done.stdout).toEqual({
        exit: 1,
        reportsCode: true,
      });
    }
    const empty = join(world.dir, 'data', 'empty.db');
    writeFileSync(empty, '');
    const failed = await backup('', empty);
    expect({ exit: failed.code, reportsBackupBroken: failed.stdout.includes('backup-broken') }, failed.stdout).toEqual({
      exit: 1,
      reportsBackupBroken: true,
    });
    expect(copies()).toEqual(before);
  });

  it('restores a SQLite backup in a drill, and in place without replaying the write-ahead log of the old database', async () => {
    const destination = join(world.dir, 'nas', 'app');
    const run = (text: string) => {
      const file = join(world.dir, 'given.yaml');
      writeFileSync(file, text);
      return world.host.chatops(['run', file]);
    };
    const drill = await run(`action: drill\nof: {kind: sqlite, name: app}\nfrom: ${destination}\n`);
    expect({ exit: drill.code, reportsRestore: drill.stdout.includes('restored in') }, drill.stdout).toEqual({
      exit: 0,
      reportsRestore: true,
    });
    const to = join(world.dir, 'data', 'back.db');
    const live = new DatabaseSync(to);
    live.exec('PRAGMA journal_mode = WAL; CREATE TABLE a (n INTEGER); INSERT INTO a VALUES (1), (2), (3);');
    const restore = (more = '') =>
      run(`action: restore\nof: {kind: sqlite, name: app}\nfrom: ${destination}\nto: ${to}\n${more}`);
    const refused = await restore();
    expect({
      exit: refused.code,
      reportsOverwriteUnconfirmed: refused.stdout.includes('overwrite-unconfirmed'),
    }).toEqual({ exit: 1, reportsOverwriteUnconfirmed: true });
    const done = await restore('confirm_overwrite: true\n');
    expect(done.code, done.stdout).toBe(0);
    const restored = new DatabaseSync(to, { readOnly: true });
    const { n } = restored.prepare('SELECT count(*) AS n FROM a').get() as { n: number };
    restored.close();
    expect({ rowsOfPartialTransaction: n % 200, hasRows: n > 0 }).toEqual({
      rowsOfPartialTransaction: 0,
      hasRows: true,
    });
    const [aside = ''] = readdirSync(join(world.dir, 'data')).filter(name => /^back\.db\.before-\S+Z$/.test(name));
    const old = new DatabaseSync(join(world.dir, 'data', aside), { readOnly: true });
    expect(old.prepare('SELECT count(*) AS n FROM a').get()).toEqual({ n: 3 });
    old.close();
    live.close();
  });

  it('finishes a SQLite backup after the agent was killed in the middle', async () => {
    const started = await world.host.chatops(['run', intent(), '--detach']);
    await sleep(50);
    await world.host.stop('SIGKILL');
    await world.host.start({
      backups: {
        sources: [join(world.dir, 'data')],
        destinations: [{ path: join(world.dir, 'nas'), min_free: '1MiB' }],
      },
    });
    const logs = await world.host.chatops(['logs', started.stdout.trim(), '-f']);
    expect({ exit: logs.code, lastLine: logs.stdout.trim().split('\n').at(-1) }, logs.stdout).toEqual({
      exit: 0,
      lastLine: '✓ succeeded',
    });
  });
});
