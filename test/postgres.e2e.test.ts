import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postgresImage } from './stand/images.ts';
import { eventually, Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

let vault: Vault;
let server: string;
beforeAll(async () => {
  vault = await new Vault().start();
  server = vault.container('chatops-pg', '--env', 'POSTGRES_USER=app', postgresImage());
  await eventually(() => docker('exec', server, 'pg_isready', '--host', '127.0.0.1'));
  sql('postgres', 'CREATE DATABASE shop');
  sql('shop', 'CREATE TABLE orders (n int); INSERT INTO orders SELECT generate_series(1, 20000)');
});
afterAll(() => vault[Symbol.asyncDispose]());

const sql = (database: string, text: string) =>
  docker('exec', server, 'psql', '-U', 'app', '-d', database, '-qAtc', text).trim();
const databases = () =>
  sql('postgres', 'SELECT datname FROM pg_database WHERE datistemplate IS FALSE ORDER BY 1').split('\n');
const intent = (more = '', database = 'shop', container = server) =>
  `action: backup\ndatabase_type: postgres\nsource_container: ${container}\ndatabase: ${database}\ndestination: ${vault.nas}\n${more}`;
const backup = (more?: string, database?: string, container?: string) =>
  vault.run('pg', intent(more, database, container));
const restore = (more = '') =>
  vault.run(
    'back',
    `action: restore\nof: {kind: postgres, name: pg}\nfrom: ${vault.nas}\nto_container: ${server}\n${more}`,
  );

describe('a backup of a PostgreSQL database', () => {
  it('dumps a PostgreSQL database with the server’s own programs, checks the whole dump, and restores it by hand', async () => {
    const done = await backup('keep: {last: 2}\nmin_keep: 1\n');
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    const [name = ''] = vault.kept('pg');
    const manifest = vault.manifest('pg', name);
    expect(manifest).toMatchObject({ kind: 'postgres', database: 'shop', file: 'shop.dump', files: 2 });
    expect({ pg_dump: manifest.versions.pg_dump, image: manifest.image }).toEqual({
      pg_dump: expect.stringContaining('pg_dump (PostgreSQL)'),
      image: expect.stringContaining('sha256:'),
    });
    expect(vault.leftovers('pg')).toEqual([]);
    // Follows the recovery card.
    const card = readFileSync(join(vault.nas, 'pg', 'RESTORE.md'), 'utf8');
    expect(card).toContain('pg_restore');
    sql('postgres', 'CREATE DATABASE byhand TEMPLATE template0');
    execFileSync('docker', ['exec', '-i', server, 'pg_restore', '-U', 'app', '--exit-on-error', '-d', 'byhand'], {
      input: readFileSync(join(vault.nas, 'pg', name, 'shop.dump')),
    });
    expect(sql('byhand', 'SELECT count(*) FROM orders')).toBe('20000');
    sql('postgres', 'DROP DATABASE byhand');
  });

  it.each([
    ['of a database that does not exist', () => backup('', 'nosuch'), 'database-missing'],
    ['of a database without a table', () => backup('', 'postgres'), 'backup-broken'],
    ['in a container that does not exist', () => backup('', 'shop', 'missing'), 'container-missing'],
  ])('stores no PostgreSQL backup %s', async (_, job, code) => {
    const before = vault.kept('pg');
    const done = await job();
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 1, reason: code });
    expect({ kept: vault.kept('pg'), leftovers: vault.leftovers('pg') }).toEqual({ kept: before, leftovers: [] });
  });

  it('refuses a backup in a stopped container, or with a pg_dump that is too old', async () => {
    docker('pause', server);
    const paused = await backup();
    docker('unpause', server);
    expect(paused.reason, paused.log).toBe('container-stopped');
    // Prints the error of an older pg_dump, on the PATH that leads to the server's own program.
    const message = 'pg_dump: error: aborting because of server version mismatch';
    const old = vault.container(
      'chatops-old',
      '--env',
      'PATH=/old:/bin',
      '--user',
      '0',
      postgresImage(),
      'sh',
      '-c',
      `mkdir /old; echo '#!/bin/sh' > /old/pg_dump; echo 'echo ${message} >&2; exit 1' >> /old/pg_dump; chmod 755 /old/pg_dump; sleep 600`,
    );
    await eventually(() => docker('exec', old, 'ls', '/old/pg_dump'));
    const done = await backup('', 'shop', old);
    expect(done.reason, done.log).toBe('database-version');
  });

  it('drills a PostgreSQL backup in a throw-away server, at once or later, times it, and removes the server', async () => {
    const done = await backup('verify_level: drill\n');
    expect({ exit: done.code, logsTables: done.log.includes('tables: 1') }, done.log).toEqual({
      exit: 0,
      logsTables: true,
    });
    const drill = await vault.run('try', `action: drill\nof: {kind: postgres, name: pg}\nfrom: ${vault.nas}\n`);
    expect({ exit: drill.code, logsRestoreTime: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logsRestoreTime: true,
    });
    expect(vault.manifest('pg', vault.kept('pg').at(-1) ?? '').drill).toMatchObject({ seconds: expect.any(Number) });
    expect(await vault.host.metrics()).toMatch(
      /chatops_backup_last_drill_timestamp_seconds\{kind="postgres",name="pg"\} 1\d{9}/,
    );
    expect(
      docker(
        'ps',
        '--all',
        '--quiet',
        '--filter',
        'label=chatops=drill',
        '--filter',
        'ancestor=chatops-test/postgres:1',
      ),
    ).toBe('');
  });

  it('restores a PostgreSQL database under its name and keeps the current one, but only if the intent confirms it', async () => {
    sql('shop', 'DELETE FROM orders WHERE n > 5');
    const refused = await restore();
    expect({ reason: refused.reason, orders: sql('shop', 'SELECT count(*) FROM orders') }).toEqual({
      reason: 'overwrite-unconfirmed',
      orders: '5',
    });
    const done = await restore('confirm_overwrite: true\n');
    expect({ exit: done.code, orders: sql('shop', 'SELECT count(*) FROM orders') }, done.log).toEqual({
      exit: 0,
      orders: '20000',
    });
    const [aside = ''] = databases().filter(name => name.startsWith('shop_before_'));
    expect({
      orders: sql(aside, 'SELECT count(*) FROM orders'),
      unfinished: databases().filter(name => name.includes('_restore_')),
    }).toEqual({ orders: '5', unfinished: [] });
    const other = await restore('database: copy\n');
    expect({ exit: other.code, orders: sql('copy', 'SELECT count(*) FROM orders') }, other.log).toEqual({
      exit: 0,
      orders: '20000',
    });
  });

  it('swaps the old PostgreSQL database back if the restore fails its check', async () => {
    vault.stack('app', { 'compose.yaml': 'services: {}\n' });
    sql('shop', 'CREATE TABLE precious (n int)');
    const done = await restore(
      'confirm_overwrite: true\nstack: app\nverify: {tcp: {address: "127.0.0.1:1", retries: 0}}\n',
    );
    // The check fails for both databases: only the name of the current one matters.
    expect({ reason: done.reason, logsSwapBack: done.log.includes('✓ swap back') }, done.log).toEqual({
      reason: 'undo-failed',
      logsSwapBack: true,
    });
    expect(sql('shop', "SELECT count(*) FROM pg_tables WHERE tablename = 'precious'")).toBe('1');
    expect(databases().filter(name => name.includes('_restore_'))).toEqual([]);
    sql('shop', 'DROP TABLE precious');
  });

  it('refuses to restore or drill a PostgreSQL dump with a changed byte, and marks its backup as broken', async () => {
    const name = vault.kept('pg').at(-1) ?? '';
    const file = openSync(join(vault.nas, 'pg', name, 'shop.dump'), 'r+');
    writeSync(file, 'X', 3000);
    closeSync(file);
    const done = await restore('confirm_overwrite: true\n');
    expect({ reason: done.reason, orders: sql('shop', 'SELECT count(*) FROM orders') }, done.log).toEqual({
      reason: 'backup-broken',
      orders: '20000',
    });
    expect(vault.manifest('pg', name).broken.why).toContain('sha256');
    const again = await restore('database: later\n');
    expect(again.log, again.log).not.toContain(`(${name})`);
    const named = await vault.run(
      'try',
      `action: drill\nof: {kind: postgres, name: pg}\nfrom: ${vault.nas}\nat: ${name}\n`,
    );
    expect(named.reason, named.log).toBe('backup-broken');
  });

  it('ends the dump inside the container when the PostgreSQL backup is cancelled', async () => {
    sql('shop', 'CREATE TABLE held (n int)');
    docker(
      'exec',
      '--detach',
      server,
      'psql',
      '-U',
      'app',
      '-d',
      'shop',
      '-c',
      'BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(20)',
    );
    await eventually(() =>
      expect(sql('shop', "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted")).toBe('1'),
    );
    const started = await vault.run('pg', intent(), '--detach');
    const id = started.log.trim();
    const dumping = () =>
      docker('top', server, '-eo', 'pid,args')
        .split('\n')
        .filter(line => /\bpg_dump --format/.test(line));
    await eventually(() => expect(dumping()).not.toEqual([]));
    await vault.host.chatops(['cancel', id]);
    const log = await vault.host.chatops(['logs', id, '-f']);
    expect({ lastLine: log.stdout.trim().split('\n').at(-1), dumping: dumping() }, log.stdout).toEqual({
      lastLine: expect.stringContaining('cancelled'),
      dumping: [],
    });
    expect(vault.leftovers('pg')).toEqual([]);
    sql(
      'postgres',
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()",
    );
  });
});
