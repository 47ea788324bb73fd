import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RunResult, Vault } from './stand/vault.ts';
import { buildImage, docker } from './stand/world.ts';

let vault: Vault;
let outside: string;
beforeAll(async () => {
  vault = new Vault();
  outside = join(vault.dir, 'outside');
  mkdirSync(outside);
  const password = join(vault.dir, 'restic');
  writeFileSync(password, 'secret\n', { mode: 0o600 });
  const backups = { ...vault.policy.backups, sources: [vault.data], restic: { password_file: password } };
  await vault.host.start({ backups });
});
afterAll(() => vault[Symbol.asyncDispose]());

/** Exchanges a folder for a link and back, as fast as it can, until it is killed. */
const swappers: ChildProcess[] = [];
function swapForever(path: string, target: string): void {
  const code = `const { renameSync, rmSync, symlinkSync } = require('node:fs');
    const [path, target] = process.argv.slice(1);
    for (;;) {
      renameSync(path, path + '.real'); symlinkSync(target, path);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
      rmSync(path); renameSync(path + '.real', path);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }`;
  swappers.push(spawn(process.execPath, ['--eval', code, path, target], { stdio: 'ignore' }));
}
afterEach(() => {
  for (const swapper of swappers.splice(0)) swapper.kill('SIGKILL');
});

/** Makes a new folder with files that are not a stack's or a backup's. */
function victim(name: string): string {
  const folder = join(outside, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'secret'), `secret of ${name}`);
  return folder;
}
const contentOf = (folder: string) =>
  execFileSync('find', ['.', '-type', 'f', '-printf', '%P %s\n'], { cwd: folder, encoding: 'utf8' });
function source(name: string): string {
  const folder = join(vault.data, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'a'), 'harmless');
  return folder;
}
const backup = (name: string, more = '') =>
  vault.run(
    name,
    `action: backup\nbackup_type: docker_volumes\nsource: ${join(vault.data, name)}\ndestination: ${vault.nas}\n${more}`,
  );
const restore = (name: string, to: string) =>
  vault.run(
    `restore-${name}`,
    `action: restore\nof: ${name}\nfrom: ${vault.nas}\nto: ${to}\nconfirm_overwrite: true\n`,
  );
const sqlite = (name: string, path: string) =>
  vault.run(name, `action: backup\ndatabase_type: sqlite\nsource: ${path}\ndestination: ${vault.nas}\n`);
/** A path in an intent is refused before a run exists, one that a step finds fails the step. */
function expectOutside({ code, log }: RunResult): void {
  expect(code, log).not.toBe(0);
  expect(log).toContain('path-outside');
}

describe('a share that puts a link in a destination', () => {
  it.each<[string, string, string]>([
    ['where a mirror is', 'mirror', 'method: mirror\n'],
    ['where the folder of a backup is', '', ''],
    ['where the last backup is', 'last', ''],
    ['where restic’s repository is', 'repository', 'method: restic\n'],
  ])('gets nothing, %s', async (_, place, more) => {
    const name = `link-${place || 'folder'}`;
    const folder = victim(name);
    source(name);
    mkdirSync(join(vault.nas, name));
    if (place === '') {
      rmSync(join(vault.nas, name), { recursive: true });
      symlinkSync(folder, join(vault.nas, name));
    } else if (place === 'last') {
      expect((await backup(name)).code).toBe(0);
      const [last = ''] = vault.kept(name);
      renameSync(join(vault.nas, name, last), join(vault.dir, 'moved'));
      symlinkSync(folder, join(vault.nas, name, last));
    } else symlinkSync(folder, join(vault.nas, name, place));
    const before = contentOf(folder);
    const done = await backup(name, more);
    expect(done.reason, done.log).toBe('destination-link');
    expect(contentOf(folder)).toBe(before);
  });

  it('gets nothing while it exchanges the folder all the time', async () => {
    const folder = victim('flips');
    source('flips');
    expect((await backup('flips', 'method: mirror\n')).code).toBe(0);
    const before = contentOf(folder);
    swapForever(join(vault.nas, 'flips', 'mirror'), folder);
    for (let n = 0; n < 3; n++) await backup('flips', 'method: mirror\naccept_shrink: true\n');
    expect(contentOf(folder)).toBe(before);
  });

  it('restores no file of the host', async () => {
    const folder = victim('manifest');
    const to = source('manifest');
    expect((await backup('manifest')).code).toBe(0);
    const [name = ''] = vault.kept('manifest');
    rmSync(join(vault.nas, 'manifest', name), { recursive: true });
    symlinkSync(folder, join(vault.nas, 'manifest', name));
    // The manifest fits to the target of the link: only the link itself gives it away.
    const manifest = vault.manifest('manifest', name);
    const sums = execFileSync('sh', ['-c', 'sha256sum secret | sha256sum'], { cwd: folder, encoding: 'utf8' });
    const bytes = statSync(join(folder, 'secret')).size;
    const forged = { ...manifest, sha256: sums.slice(0, 64), files: 1, bytes };
    writeFileSync(join(vault.nas, 'manifest', `${name}.json`), JSON.stringify(forged));
    const done = await restore('manifest', to);
    expect(done.reason, done.log).toMatch(/^(backup-broken|path-outside|destination-link)$/);
    expect(contentOf(to)).toBe('a 8\n');
  });

  it('can’t make the agent wait by a pipe in the place of a file', async () => {
    source('pipes');
    mkdirSync(join(vault.nas, 'pipes'));
    for (const name of ['RESTORE.md.partial', 'old.json', 'old'])
      execFileSync('mkfifo', [join(vault.nas, 'pipes', name)]);
    const began = Date.now();
    const done = await backup('pipes');
    expect({ code: done.code === 0 || done.reason === 'not-a-file' }, done.log).toEqual({ code: true });
    expect(Date.now() - began).toBeLessThan(60_000);
  });
});

describe('a container that puts a link in a source', () => {
  it('gets no database of the host', async () => {
    const folder = victim('database');
    const db = new DatabaseSync(join(folder, 'x.db'));
    db.exec("CREATE TABLE t (a); INSERT INTO t VALUES ('secret')");
    db.close();
    const data = source('database');
    symlinkSync(join(folder, 'x.db'), join(data, 'x.db'));
    expectOutside(await sqlite('linked-file', join(data, 'x.db')));
    symlinkSync(folder, join(data, 'linked'));
    expectOutside(await sqlite('linked-folder', join(data, 'linked/x.db')));
  });

  it('gets no database of the host by a path inside of it, and its own is backed up', async () => {
    buildImage('chatops-test/web:1', '1');
    const folder = victim('boxed');
    const box = vault.container(
      'box',
      '--volume',
      `${source('boxed')}:/bind`,
      '--volume',
      '/data',
      'chatops-test/web:1',
    );
    const volume = docker(
      'inspect',
      '--format',
      '{{range .Mounts}}{{if eq .Type "volume"}}{{.Source}}{{end}}{{end}}',
      box,
    );
    for (const at of [folder, volume.trim()]) {
      const db = new DatabaseSync(join(at, 'own.db'));
      db.exec('CREATE TABLE t (a)');
      db.close();
      symlinkSync(join(folder, 'own.db'), join(at, 'x.db'));
    }
    symlinkSync(folder, join(vault.data, 'boxed', 'linked'));
    const inside = (name: string, path: string) =>
      vault.run(
        name,
        `action: backup\ndatabase_type: sqlite\nsource_container: ${box}\nsource_path: ${path}\ndestination: ${vault.nas}\n`,
      );
    for (const path of ['/data/x.db', '/bind/linked/own.db', '/data/../own.db']) {
      const done = await inside('boxed-link', path);
      expect(done.code, done.log).not.toBe(0);
    }
    expect(existsSync(join(vault.nas, 'boxed-link')) ? vault.kept('boxed-link') : []).toEqual([]);
    const done = await inside('boxed-own', '/data/own.db');
    expect(done.code, done.log).toBe(0);
  });

  it('gets no database of the host by exchanging its folder all the time', async () => {
    const folder = victim('racing');
    const make = (at: string, value: string) => {
      const db = new DatabaseSync(join(at, 'x.db'));
      db.exec(`CREATE TABLE t (a); INSERT INTO t VALUES ('${value}')`);
      db.close();
    };
    make(folder, 'secret');
    const data = join(source('racing'), 'db');
    mkdirSync(data);
    make(data, 'harmless');
    swapForever(data, folder);
    for (let n = 0; n < 4; n++) await sqlite('racing', join(data, 'x.db'));
    if (!existsSync(join(vault.nas, 'racing'))) return;
    for (const name of vault.kept('racing')) {
      const copy = new DatabaseSync(join(vault.nas, 'racing', name, 'x.db'), { readOnly: true });
      expect(copy.prepare('SELECT a FROM t').all()).toEqual([{ a: 'harmless' }]);
      copy.close();
    }
  });

  it.each([
    ['the folder', 'copied', 'copied'],
    ['a folder in it', 'copied-inner', 'copied-inner/inner'],
  ])('gets no file of the host by exchanging %s while it is copied', async (_, name, place) => {
    const folder = victim(name);
    const data = join(vault.data, place);
    mkdirSync(data, { recursive: true });
    for (let n = 0; n < 200; n++) writeFileSync(join(data, `file-${n}`), 'harmless');
    swapForever(data, folder);
    for (let n = 0; n < 3; n++) await backup(name, 'consistency: live\n');
    for (const swapper of swappers.splice(0)) swapper.kill('SIGKILL');
    // The link itself may be in a copy: it is a part of the source. Only find does not follow it.
    const found = existsSync(join(vault.nas, name))
      ? execFileSync('find', [join(vault.nas, name), '-name', 'secret'], { encoding: 'utf8' })
      : '';
    expect(found).toBe('');
  });

  it('gets nothing written elsewhere by a restore', async () => {
    const folder = victim('target');
    const data = source('target');
    expect((await backup('target')).code).toBe(0);
    const parent = join(vault.data, 'parent');
    symlinkSync(folder, parent);
    const before = contentOf(folder);
    expectOutside(await restore('target', join(parent, 'new')));
    expect(contentOf(folder)).toBe(before);
    expect(readFileSync(join(data, 'a'), 'utf8')).toBe('harmless');
  });

  it('brings back neither device nodes nor pipes', async () => {
    const data = source('devices');
    execFileSync('mknod', [join(data, 'null'), 'c', '1', '3']);
    execFileSync('mkfifo', [join(data, 'pipe')]);
    const done = await backup('devices');
    expect(done.code, done.log).toBe(0);
    const [name = ''] = vault.kept('devices');
    expect(readdirSync(join(vault.nas, 'devices', name))).toEqual(['a']);
  });
});

describe('a page for operators', () => {
  it('quotes the name of a database', async () => {
    const path = join(source('names'), 'x;touch pwned;.db');
    const db = new DatabaseSync(path);
    db.exec('CREATE TABLE t (a)');
    db.close();
    const done = await sqlite('names', JSON.stringify(path));
    expect(done.code, done.log).toBe(0);
    const page = readFileSync(join(vault.nas, 'names', 'RESTORE.md'), 'utf8');
    expect(page).toContain("cp -- <folder>/'x;touch pwned;.db' <target>");
  });
});
