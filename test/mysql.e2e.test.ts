import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mariadbImage } from './stand/images.ts';
import { eventually, Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

const PASSWORD = "it's a $ecret";
let vault: Vault;
let server: string;
beforeAll(async () => {
  vault = await new Vault().start();
  server = vault.container('chatops-my', '--env', 'MARIADB_ROOT_PASSWORD=s3cret-1234', mariadbImage());
  await eventually(() => sql('SELECT 1'));
  sql(
    'CREATE DATABASE shop; USE shop; CREATE TABLE orders (n INT PRIMARY KEY); INSERT INTO orders SELECT seq FROM seq_1_to_5000; CREATE VIEW big AS SELECT * FROM orders WHERE n > 100',
  );
});
afterAll(() => vault[Symbol.asyncDispose]());

const sql = (text: string) =>
  docker('exec', '--env', 'MYSQL_PWD=s3cret-1234', server, 'mariadb', '-uroot', '-BNe', text).trim();
const intent = (more = '', database = 'shop', container = server) =>
  `action: backup\ndatabase_type: mariadb\nsource_container: ${container}\ndatabase: ${database}\ndestination: ${vault.nas}\n${more}`;
const backup = (more?: string, database?: string) => vault.run('my', intent(more, database));
const restore = (more = 'confirm_overwrite: true\n') =>
  vault.run(
    'back',
    `action: restore\nof: {kind: mysql, name: my}\nfrom: ${vault.nas}\nto_container: ${server}\n${more}`,
  );

describe('a backup of a MariaDB database', () => {
  it.each(['zstd', 'gzip', '0'])(
    'dumps a whole MariaDB database with compress %s, and stores its password nowhere',
    async compress => {
      const done = await backup(`compress: "${compress}"\n`);
      expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
      const name = vault.kept('my').at(-1) ?? '';
      const { file } = vault.manifest('my', name);
      const program = { zstd: 'zstd', gzip: 'gzip', 0: 'cat' }[compress] ?? '';
      const kept = join(vault.nas, 'my', name, file);
      const text = execFileSync(program, [...(compress === '0' ? [] : ['-dc']), kept], { encoding: 'utf8' });
      expect(text).toMatch(/CREATE TABLE `orders`[\s\S]*-- Dump completed/);
      expect(vault.leftovers('my')).toEqual([]);
      // The password is neither in the log nor in any file of the agent.
      expect(done.log).not.toContain('s3cret-1234');
      expect(spawnSync('grep', ['-rla', 's3cret-1234', vault.host.state], { encoding: 'utf8' }).stdout).toBe('');
    },
  );

  it.each([
    ['of a database that does not exist', () => backup('', 'nosuch'), 'database-missing'],
    [
      'of a database with a broken view, although its dump ends with the usual words',
      () => {
        sql('CREATE DATABASE holey; USE holey; CREATE TABLE a (n INT); CREATE VIEW v AS SELECT n FROM a; DROP TABLE a');
        return backup('', 'holey');
      },
      'dump-failed',
    ],
  ])('stores no MariaDB backup %s', async (_, job, code) => {
    const before = vault.kept('my');
    const done = await job();
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 1, reason: code });
    expect({ kept: vault.kept('my'), leftovers: vault.leftovers('my') }).toEqual({ kept: before, leftovers: [] });
  });

  it('reads the password of another MariaDB user from a file on the host', async () => {
    sql(
      `CREATE USER keeper IDENTIFIED BY "${PASSWORD}"; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON shop.* TO keeper; GRANT SELECT ON mysql.proc TO keeper`,
    );
    const denied = await backup('user: keeper\n');
    expect(denied.reason, denied.log).toBe('database-denied');
    const file = join(vault.dir, 'password');
    writeFileSync(file, `${PASSWORD}\n`, { mode: 0o600 });
    const databases = [{ server, stack: false, user: 'keeper', password_file: file }];
    await vault.host.stop();
    await vault.host.start({ backups: { ...vault.policy.backups, databases } });
    const done = await backup();
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    await vault.host.stop();
    await vault.host.start({
      backups: { ...vault.policy.backups, databases: [{ server, stack: false, password_file: `${file}.gone` }] },
    });
    expect((await backup()).reason).toBe('secret-unreadable');
    await vault.host.stop();
    await vault.host.start(vault.policy);
  });

  it('proves a MariaDB backup in a throw-away server, at once or later', async () => {
    const done = await backup('verify_level: drill\n');
    expect({ exit: done.code, logsTables: done.log.includes('tables: 2') }, done.log).toEqual({
      exit: 0,
      logsTables: true,
    });
    const drill = await vault.run('try', `action: drill\nof: {kind: mysql, name: my}\nfrom: ${vault.nas}\n`);
    expect({ exit: drill.code, logsRestoreTime: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logsRestoreTime: true,
    });
    expect(
      docker(
        'ps',
        '--all',
        '--quiet',
        '--filter',
        'label=chatops=drill',
        '--filter',
        'ancestor=chatops-test/mariadb:1',
      ),
    ).toBe('');
  });

  it('restores a MariaDB database in place after a copy of the current one, and undoes a restore that fails', async () => {
    sql('DELETE FROM shop.orders WHERE n > 7; CREATE TABLE shop.later (n INT)');
    expect((await restore('')).reason).toBe('overwrite-unconfirmed');
    const done = await restore();
    expect(
      {
        exit: done.code,
        orders: sql('SELECT COUNT(*) FROM shop.orders'),
        tables: sql('SHOW TABLES FROM shop'),
      },
      done.log,
    ).toEqual({ exit: 0, orders: '5000', tables: 'big\norders' });
    const [before = ''] = vault.leftovers('my');
    expect(readFileSync(join(vault.nas, 'my', before), 'utf8')).toContain('CREATE TABLE `later`');
    sql('CREATE TABLE shop.precious (n INT)');
    vault.stack('app', { 'compose.yaml': 'services: {}\n' });
    const undone = await restore(
      'confirm_overwrite: true\nstack: app\nverify: {tcp: {address: "127.0.0.1:1", retries: 0}}\n',
    );
    expect({ reason: undone.reason, tables: sql('SHOW TABLES FROM shop') }, undone.log).toEqual({
      reason: 'undo-failed',
      tables: 'big\norders\nprecious',
    });
    sql('DROP TABLE shop.precious');
    sql('DELETE FROM shop.orders WHERE n > 9');
    // A dump that the server can't load, although it matches its manifest.
    const name = vault.kept('my').at(-1) ?? '';
    const broken = await vault.run(
      'nope',
      `action: restore\nof: {kind: mysql, name: my}\nfrom: ${vault.nas}\nto_container: ${server}\nconfirm_overwrite: true\nuser: stranger\n`,
    );
    expect({ exit: broken.code, orders: sql('SELECT COUNT(*) FROM shop.orders') }, broken.log).toEqual({
      exit: 1,
      orders: '9',
    });
    const file = openSync(join(vault.nas, 'my', name, vault.manifest('my', name).file), 'r+');
    writeSync(file, 'X', 30);
    closeSync(file);
    const flipped = await restore(`confirm_overwrite: true\nat: ${name}\n`);
    expect({ reason: flipped.reason, orders: sql('SELECT COUNT(*) FROM shop.orders') }, flipped.log).toEqual({
      reason: 'backup-broken',
      orders: '9',
    });
  });
});
