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

/** A NAS of its own: a network namespace with an rsync daemon, reached over a pair of virtual cables. */
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
const own = (name: string) => join(vault.dir, name);

function startDaemon(): void {
  ip('netns', 'add', SPACE);
  ip('link', 'add', CABLE, 'type', 'veth', 'peer', 'name', `${CABLE}b`);
  ip('link', 'set', `${CABLE}b`, 'netns', SPACE);
  ip('addr', 'add', `${HERE}/30`, 'dev', CABLE);
  ip('link', 'set', CABLE, 'up');
  ip('-n', SPACE, 'addr', 'add', `${THERE}/30`, 'dev', `${CABLE}b`);
  ip('-n', SPACE, 'link', 'set', `${CABLE}b`, 'up');
  writeFileSync(own('secrets'), 'backup:s3cret\n', { mode: 0o600 });
  writeFileSync(own('password'), 's3cret\n', { mode: 0o600 });
  writeFileSync(
    own('rsyncd.conf'),
    `address = ${THERE}\nport = 8730\nuse chroot = no\nuid = 0\ngid = 0\n[backup]\npath = ${join(away, 'daemon')}\nread only = no\nauth users = backup\nsecrets file = ${own('secrets')}\n`,
  );
  const line = ['netns', 'exec', SPACE, 'rsync', '--daemon', '--no-detach', `--config=${own('rsyncd.conf')}`];
  daemon = spawn('ip', line, { stdio: 'ignore' });
}

function startSshd(): void {
  for (const key of ['host_key', 'user_key'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', own(key)]);
  const known = readFileSync(own('host_key.pub'), 'utf8').split(' ').slice(0, 2).join(' ');
  writeFileSync(own('known_hosts'), `[127.0.0.1]:${port} ${known}\n`);
  writeFileSync(own('authorized_keys'), readFileSync(own('user_key.pub')));
  writeFileSync(
    own('sshd_config'),
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${own('host_key')}\nAuthorizedKeysFile ${own('authorized_keys')}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n`,
  );
  mkdirSync('/run/sshd', { recursive: true });
  sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', own('sshd_config')], { stdio: 'ignore' });
}

const targets = () => ({ daemon: `rsync://backup@${THERE}:8730/backup`, ssh: `root@127.0.0.1:${join(away, 'ssh')}` });
const policy = (more: object = {}) => ({
  backups: {
    ...vault.policy.backups,
    remotes: [
      { target: targets().daemon, password_file: own('password'), ...more },
      { target: targets().ssh, ssh: { key_file: own('user_key'), known_hosts: own('known_hosts'), port }, ...more },
    ],
  },
});
type Way = 'daemon' | 'ssh';
const intent = (way: Way, more = '') =>
  `action: backup\nbackup_type: docker_volumes\nsource: ${join(vault.data, 'www')}\ndestination: ${targets()[way]}\nexclude: [cache/]\n${more}`;
const backup = (way: Way, more?: string) => vault.run('www', intent(way, more));
const there = (way: Way) => join(away, way, 'www');
const kept = (way: Way) =>
  existsSync(there(way))
    ? readdirSync(there(way))
        .filter(name => name.endsWith('.json'))
        .map(name => name.slice(0, -5))
        .sort()
    : [];
const restore = (way: Way, to: string, more = '') =>
  vault.run('back', `action: restore\nof: www\nfrom: ${targets()[way]}\nto: ${join(vault.data, to)}\n${more}`);

describe.each(['daemon', 'ssh'] as const)('a backup to another host by %s', way => {
  it('is read back there, shares what did not change, and is pruned there', async () => {
    const first = await backup(way);
    expect({ exit: first.code, reason: first.reason }, first.log).toEqual({ exit: 0, reason: '' });
    expect(first.log).toMatch(/100%/);
    await sleep(20);
    writeFileSync(join(vault.data, 'www', 'a.txt'), `changed ${way}\n`);
    const second = await backup(way, 'keep: {last: 2}\nmin_keep: 1\n');
    expect({ exit: second.code, reason: second.reason }, second.log).toEqual({ exit: 0, reason: '' });
    const [one = '', two = ''] = kept(way);
    const inode = (name: string) => statSync(join(there(way), name, 'deep/b c.txt')).ino;
    expect(inode(one)).toBe(inode(two));
    expect(readdirSync(join(there(way), two)).sort()).toEqual(['a.txt', 'deep']);
    const manifest = JSON.parse(readFileSync(join(there(way), `${two}.json`), 'utf8'));
    expect(manifest).toMatchObject({
      kind: 'docker_volumes',
      files: 2,
      parent: one,
      checks: ['md5 of every file, read at the other end'],
    });
    const third = await backup(way, 'keep: {last: 2}\nmin_keep: 1\n');
    expect(
      { exit: third.code, keptCount: kept(way).length, entriesNamesOne: readdirSync(there(way)).includes(one) },
      third.log,
    ).toEqual({ exit: 0, keptCount: 2, entriesNamesOne: false });
    expect(readdirSync(there(way)).sort()).toEqual(
      ['RESTORE.md', ...kept(way).flatMap(name => [name, `${name}.json`])].sort(),
    );
  });

  it('comes back, also to a host that has forgotten it, and can be tried', async () => {
    rmSync(join(vault.host.state, 'backups'), { recursive: true, force: true });
    const done = await restore(way, `from-${way}`);
    expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    expect(readFileSync(join(vault.data, `from-${way}`, 'deep/b c.txt'), 'utf8')).toBe('two\n');
    const drill = await vault.run('try', `action: drill\nof: www\nfrom: ${targets()[way]}\n`);
    expect({ exit: drill.code, logNamesRestoredIn: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logNamesRestoredIn: true,
    });
  });

  it('that has lost a byte there is not restored', async () => {
    const name = kept(way).at(-1) ?? '';
    const file = join(there(way), name, 'a.txt');
    const { atime, mtime } = statSync(file);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('c', 'C'));
    execFileSync('touch', ['-d', mtime.toISOString(), file]);
    expect(atime).toBeDefined();
    const done = await restore(way, `flipped-${way}`);
    expect({ reason: done.reason, exists: existsSync(join(vault.data, `flipped-${way}`)) }, done.log).toEqual({
      reason: 'backup-broken',
      exists: false,
    });
    writeFileSync(file, text);
  });

  it('is refused where nothing shows that the right disk is there', async () => {
    await vault.host.stop();
    await vault.host.start(policy({ marker: 'this-is-the-nas' }));
    const before = kept(way);
    const done = await backup(way);
    expect({ reason: done.reason, kept: kept(way) }, done.log).toEqual({
      reason: 'destination-unmarked',
      kept: before,
    });
    expect(done.log).toContain('is the right disk mounted at the other end?');
    writeFileSync(join(away, way, 'this-is-the-nas'), '');
    expect((await backup(way)).code).toBe(0);
    await vault.host.stop();
    await vault.host.start(policy());
  });
});

describe('a target on another host', () => {
  it.each(['rsync://elsewhere/backup', 'root@127.0.0.1:/etc', 'backup@nas:/srv'])(
    'that agent.yaml does not name is refused: %s',
    async destination => {
      const done = await vault.run('www', intent('ssh').replace(targets().ssh, destination));
      expect(done.reason, done.log).toBe('destination-not-allowed');
    },
  );

  it('whose password or key is wrong is refused, and one that does not answer is said to', async () => {
    const before = kept('daemon');
    writeFileSync(own('password'), 'wrong\n', { mode: 0o600 });
    expect((await backup('daemon')).reason).toBe('remote-unreachable');
    writeFileSync(own('password'), 's3cret\n', { mode: 0o600 });
    const known = readFileSync(own('known_hosts'));
    writeFileSync(own('known_hosts'), '');
    expect((await backup('ssh')).reason).toBe('remote-unreachable');
    writeFileSync(own('known_hosts'), known);
    daemon.kill('SIGKILL');
    expect((await backup('daemon')).reason).toBe('remote-unreachable');
    expect(kept('daemon')).toEqual(before);
  });

  it('that is filled midway keeps its earlier backups, and the new one does not count', async () => {
    appendFileSync(own('rsyncd.conf'), 'timeout = 60\n');
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
