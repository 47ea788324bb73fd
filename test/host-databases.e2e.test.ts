import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, Vault } from './stand/vault.ts';

/** A host with database servers on itself, each with its socket in its own folder. */
let vault: Vault;
const servers: ChildProcess[] = [];
beforeAll(async () => {
  vault = await new Vault().start();
  for (const folder of ['pg', 'my']) mkdirSync(join(vault.data, folder));
  startPostgres(join(vault.data, 'pg'));
  startMariadb(join(vault.data, 'my'));
  await eventually(() => sql('SELECT 1'));
  await eventually(() => mysql('SELECT 1'));
  sql('CREATE TABLE orders AS SELECT generate_series(1, 500) AS n');
  mysql('CREATE DATABASE shop; CREATE TABLE shop.orders (n INT); INSERT INTO shop.orders VALUES (1), (2), (3)');
});
afterAll(async () => {
  for (const server of servers) {
    server.kill('SIGKILL');
    await once(server, 'exit');
  }
  await vault[Symbol.asyncDispose]();
});

function startPostgres(folder: string): void {
  const version = readdirSync('/usr/lib/postgresql').sort().at(-1) ?? '';
  const bin = `/usr/lib/postgresql/${version}/bin`;
  // PostgreSQL refuses to run as root.
  const id = Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }));
  for (const path of [vault.dir, vault.data]) chmodSync(path, 0o755);
  execFileSync('chown', ['postgres', folder]);
  const options = { uid: id, cwd: '/', stdio: 'ignore' as const };
  execFileSync(
    `${bin}/initdb`,
    ['--auth', 'trust', '--no-sync', '--no-locale', '--encoding', 'UTF8', join(folder, 'data')],
    options,
  );
  const settings = ['listen_addresses=', `unix_socket_directories=${folder}`, 'fsync=off'].flatMap(setting => [
    '-c',
    setting,
  ]);
  servers.push(spawn(`${bin}/postgres`, ['-D', join(folder, 'data'), ...settings], options));
}

function startMariadb(folder: string): void {
  const data = join(folder, 'data');
  const install = [
    '--no-defaults',
    '--user=root',
    `--datadir=${data}`,
    '--auth-root-authentication-method=normal',
    '--skip-test-db',
  ];
  execFileSync('mariadb-install-db', install, { stdio: 'ignore' });
  const args = [
    '--no-defaults',
    '--user=root',
    `--datadir=${data}`,
    '--skip-networking',
    `--socket=${folder}/mysqld.sock`,
  ];
  servers.push(spawn('mariadbd', [...args, `--pid-file=${folder}/pid`], { stdio: 'ignore' }));
}

const sql = (text: string) =>
  execFileSync('psql', ['--host', join(vault.data, 'pg'), '-U', 'postgres', '-qAtc', text], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
const mysql = (text: string) =>
  execFileSync(
    'mariadb',
    ['--no-defaults', '--socket', join(vault.data, 'my', 'mysqld.sock'), '-uroot', '-BNe', text],
    { encoding: 'utf8', stdio: 'pipe' },
  );
const intent = (type: string, folder: string, database: string) =>
  `action: backup\ndatabase_type: ${type}\nsource: ${join(vault.data, folder)}\ndatabase: ${database}\ndestination: ${vault.nas}\n`;

describe('a database server on the host itself', () => {
  it('backs up PostgreSQL on the host with the host’s own client, and pg_restore reads the dump', async () => {
    const done = await vault.run('hostpg', intent('postgres', 'pg', 'postgres'));
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    const dump = join(vault.nas, 'hostpg', vault.kept('hostpg')[0] ?? '', 'postgres.dump');
    expect(execFileSync('pg_restore', ['--file=-', dump], { encoding: 'utf8' })).toContain('\n500\n');
    expect((await vault.run('hostpg', intent('postgres', 'pg', 'nosuch'))).reason).toBe('database-missing');
    // A drill has no image that it can start.
    const drill = await vault.run('try', `action: drill\nof: {kind: postgres, name: hostpg}\nfrom: ${vault.nas}\n`);
    expect(drill.reason, drill.log).toBe('image-gone');
  });

  it('backs up MariaDB on the host with the host’s own client', async () => {
    const done = await vault.run('hostmy', intent('mariadb', 'my', 'shop'));
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    const dump = join(vault.nas, 'hostmy', vault.kept('hostmy')[0] ?? '', 'shop.sql.zst');
    expect(execFileSync('zstd', ['-dc', dump], { encoding: 'utf8' })).toContain('(1),\n(2),\n(3)');
  });

  it('reports a database server that does not answer, and leaves no files', async () => {
    const done = await vault.run('hostpg', intent('postgres', 'no-such-folder', 'postgres'));
    expect({ exit: done.code, reason: done.reason, leftovers: vault.leftovers('hostpg') }, done.log).toEqual({
      exit: 1,
      reason: 'dump-failed',
      leftovers: [],
    });
  });
});
