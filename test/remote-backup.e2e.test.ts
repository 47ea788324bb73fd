import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { eventually, Vault } from './stand/vault.ts';

/** The network namespace of a NAS with an rsync daemon, connected by a pair of virtual cables. */
const SPACE = `chatops-nas-${process.pid}`;
const CABLE = `nas${process.pid % 100_000}`;
const [HERE, THERE] = ['100.64.77.1', '100.64.77.2'];

let vault: Vault;
let daemon: ChildProcess;
let sshd: ChildProcess;
let away: string;
let port: number;
beforeAll(async () => {
  vault = new Vault();
  away = join(vault.dir, 'away');
  for (const folder of ['daemon', 'ssh']) mkdirSync(join(away, folder), { recursive: true });
  startDaemon();
  port = await freePort();
  startSshd();
  await vault.host.start(policy());
  for (const [path, text] of Object.entries({ 'a.txt': 'one\n', 'deep/b c.txt': 'two\n', 'cache/x': 'no' })) {
    mkdirSync(join(vault.data, 'www', path, '..'), { recursive: true });
    writeFileSync(join(vault.data, 'www', path), text);
  }
});
afterAll(async () => {
  daemon.kill('SIGKILL');
  sshd.kill('SIGKILL');
  ip('netns', 'delete', SPACE);
  await vault[Symbol.asyncDispose]();
});

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
const inVault = (name: string) => join(vault.dir, name);

function startDaemon(): void {
  ip('netns', 'add', SPACE);
  ip('link', 'add', CABLE, 'type', 'veth', 'peer', 'name', `${CABLE}b`);
  ip('link', 'set', `${CABLE}b`, 'netns', SPACE);
  ip('addr', 'add', `${HERE}/30`, 'dev', CABLE);
  ip('link', 'set', CABLE, 'up');
  ip('-n', SPACE, 'addr', 'add', `${THERE}/30`, 'dev', `${CABLE}b`);
  ip('-n', SPACE, 'link', 'set', `${CABLE}b`, 'up');
  writeFileSync(inVault('secrets'), 'backup:s3cret\n', { mode: 0o600 });
  writeFileSync(inVault('password'), 's3cret\n', { mode: 0o600 });
  writeFileSync(
    inVault('rsyncd.conf'),
    `address = ${THERE}\nport = 8730\nuse chroot = no\nuid = 0\ngid = 0\n[backup]\npath = ${join(away, 'daemon')}\nread only = no\nauth users = backup\nsecrets file = ${inVault('secrets')}\n`,
  );
  const line = ['netns', 'exec', SPACE, 'rsync', '--daemon', '--no-detach', `--config=${inVault('rsyncd.conf')}`];
  daemon = spawn('ip', line, { stdio: 'ignore' });
}

function startSshd(): void {
  for (const key of ['host_key', 'user_key'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', inVault(key)]);
  const known = readFileSync(inVault('host_key.pub'), 'utf8').split(' ').slice(0, 2).join(' ');
  writeFileSync(inVault('known_hosts'), `[127.0.0.1]:${port} ${known}\n`);
  writeFileSync(inVault('authorized_keys'), readFileSync(inVault('user_key.pub')));
  writeFileSync(
    inVault('sshd_config'),
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${inVault('host_key')}\nAuthorizedKeysFile ${inVault('authorized_keys')}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n`,
  );
  mkdirSync('/run/sshd', { recursive: true });
  sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', inVault('sshd_config')], { stdio: 'ignore' });
}

const targets = () => ({ daemon: `rsync://backup@${THERE}:8730/backup`, ssh: `root@127.0.0.1:${join(away, 'ssh')}` });
const policy = (more: object = {}) => ({
  backups: {
    ...vault.policy.backups,
    remotes: [
      { target: targets().daemon, password_file: inVault('password'), ...more },
      {
        target: targets().ssh,
        ssh: { key_file: inVault('user_key'), known_hosts: inVault('known_hosts'), port },
        ...more,
      },
    ],
  },
});
type Transport = 'daemon' | 'ssh';
const intent = (transport: Transport, more = '') =>
  `action: backup\nbackup_type: docker_volumes\nsource: ${join(vault.data, 'www')}\ndestination: ${targets()[transport]}\nexclude: [cache/]\n${more}`;
const backup = (transport: Transport, more?: string) => vault.run('www', intent(transport, more));
const remoteFolder = (transport: Transport) => join(away, transport, 'www');
const kept = (transport: Transport) =>
  existsSync(remoteFolder(transport))
    ? readdirSync(remoteFolder(transport))
        .filter(name => name.endsWith('.json'))
        .map(name => name.slice(0, -5))
        .sort()
    : [];
const restore = (transport: Transport, to: string, more = '') =>
  vault.run('back', `action: restore\nof: www\nfrom: ${targets()[transport]}\nto: ${join(vault.data, to)}\n${more}`);

describe.each(['daemon', 'ssh'] as const)('a backup to another host by %s', transport => {
  it('reads a backup back on the other host, shares unchanged files, and prunes there', async () => {
    const first = await backup(transport);
    expect({ exit: first.code, reason: first.reason }, first.log).toEqual({ exit: 0, reason: '' });
    expect(first.log).toMatch(/100%/);
    await sleep(20);
    writeFileSync(join(vault.data, 'www', 'a.txt'), `changed ${transport}\n`);
    const second = await backup(transport, 'keep: {last: 2}\nmin_keep: 1\n');
    expect({ exit: second.code, reason: second.reason }, second.log).toEqual({ exit: 0, reason: '' });
    const [one = '', two = ''] = kept(transport);
    const inode = (name: string) => statSync(join(remoteFolder(transport), name, 'deep/b c.txt')).ino;
    expect(inode(one)).toBe(inode(two));
    expect(readdirSync(join(remoteFolder(transport), two)).sort()).toEqual(['a.txt', 'deep']);
    const manifest = JSON.parse(readFileSync(join(remoteFolder(transport), `${two}.json`), 'utf8'));
    expect(manifest).toMatchObject({
      kind: 'docker_volumes',
      files: 2,
      parent: one,
      checks: ['md5 of every file, read at the other end'],
    });
    const third = await backup(transport, 'keep: {last: 2}\nmin_keep: 1\n');
    expect(
      {
        exit: third.code,
        backups: kept(transport).length,
        keepsFirst: readdirSync(remoteFolder(transport)).includes(one),
      },
      third.log,
    ).toEqual({ exit: 0, backups: 2, keepsFirst: false });
    expect(readdirSync(remoteFolder(transport)).sort()).toEqual(
      ['RESTORE.md', ...kept(transport).flatMap(name => [name, `${name}.json`])].sort(),
    );
  });

  it('restores and drills a remote backup on a host that has no record of it', async () => {
    rmSync(join(vault.host.state, 'backups'), { recursive: true, force: true });
    const done = await restore(transport, `from-${transport}`);
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    expect(readFileSync(join(vault.data, `from-${transport}`, 'deep/b c.txt'), 'utf8')).toBe('two\n');
    const drill = await vault.run('try', `action: drill\nof: www\nfrom: ${targets()[transport]}\n`);
    expect({ exit: drill.code, logsRestoreTime: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logsRestoreTime: true,
    });
  });

  it('refuses to restore a remote backup with a changed byte', async () => {
    const name = kept(transport).at(-1) ?? '';
    const file = join(remoteFolder(transport), name, 'a.txt');
    const { atime, mtime } = statSync(file);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('c', 'C'));
    execFileSync('touch', ['-d', mtime.toISOString(), file]);
    expect(atime).toBeDefined();
    const target = `flipped-${transport}`;
    const done = await restore(transport, target);
    expect({ reason: done.reason, isRestored: existsSync(join(vault.data, target)) }, done.log).toEqual({
      reason: 'backup-broken',
      isRestored: false,
    });
    writeFileSync(file, text);
  });

  it('refuses a remote backup without the marker that proves the right disk', async () => {
    await vault.host.stop();
    await vault.host.start(policy({ marker: 'this-is-the-nas' }));
    const before = kept(transport);
    const done = await backup(transport);
    expect({ reason: done.reason, kept: kept(transport) }, done.log).toEqual({
      reason: 'destination-unmarked',
      kept: before,
    });
    expect(done.log).toContain('is the right disk mounted at the other end?');
    writeFileSync(join(away, transport, 'this-is-the-nas'), '');
    expect((await backup(transport)).code).toBe(0);
    await vault.host.stop();
    await vault.host.start(policy());
  });
});

describe('the target of a remote backup', () => {
  it.each(['rsync://elsewhere/backup', 'root@127.0.0.1:/etc', 'backup@nas:/srv'])(
    'refuses a remote target that agent.yaml does not name: %s',
    async destination => {
      const done = await vault.run('www', intent('ssh').replace(targets().ssh, destination));
      expect(done.reason, done.log).toBe('destination-not-allowed');
    },
  );

  it('reports a remote target with a wrong password, an unknown host key, or without an answer', async () => {
    const before = kept('daemon');
    writeFileSync(inVault('password'), 'wrong\n', { mode: 0o600 });
    expect((await backup('daemon')).reason).toBe('remote-unreachable');
    writeFileSync(inVault('password'), 's3cret\n', { mode: 0o600 });
    const known = readFileSync(inVault('known_hosts'));
    writeFileSync(inVault('known_hosts'), '');
    expect((await backup('ssh')).reason).toBe('remote-unreachable');
    writeFileSync(inVault('known_hosts'), known);
    daemon.kill('SIGKILL');
    expect((await backup('daemon')).reason).toBe('remote-unreachable');
    expect(kept('daemon')).toEqual(before);
  });

  it('keeps the earlier backups if the remote target is full midway, and does not count the new one', async () => {
    appendFileSync(inVault('rsyncd.conf'), 'timeout = 60\n');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'full', join(away, 'ssh')]);
    try {
      writeFileSync(join(away, 'ssh', 'this-is-the-nas'), '');
      expect((await backup('ssh')).code).toBe(0);
      const before = kept('ssh');
      writeFileSync(join(vault.data, 'www', 'big'), Buffer.alloc(8 * 1024 * 1024, 1));
      const done = await backup('ssh');
      expect({ reason: done.reason, kept: kept('ssh') }, done.log).toEqual({
        reason: 'destination-full',
        kept: before,
      });
    } finally {
      execFileSync('umount', [join(away, 'ssh')]);
      rmSync(join(vault.data, 'www', 'big'), { force: true });
    }
    await eventually(() => expect(existsSync(join(away, 'ssh', 'www'))).toBe(true));
  });
});
