import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finished } from './stand/runner.ts';
import { docker, LABEL, World } from './stand/world.ts';

let world: World;
let nas: string;
beforeAll(async () => {
  world = new World();
  nas = join(world.dir, 'nas');
  mkdirSync(nas);
  mount('64m');
  await world.host.start(policy());
  await world.github.start();
});
afterAll(async () => {
  await world.host.stop('SIGKILL');
  execFileSync('umount', ['--lazy', nas]);
  await world[Symbol.asyncDispose]();
});

const mount = (size: string) => execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'nas:/export', nas]);
const policy = (more: object = {}) => ({
  trust: [
    {
      name: 'homelab',
      key: world.host.keys.public,
      repository: 'org/homelab',
      allow: [{ actions: ['backup', 'rollout'], stacks: ['*'], require_labels: [LABEL] }],
    },
  ],
  backups: {
    sources: [join(world.dir, 'data')],
    destinations: [
      { path: nas, mount: { source: 'nas:/export', fstype: 'tmpfs' }, marker: 'nas-1', min_free: '1MiB', ...more },
    ],
  },
});
const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
/** Creates a source folder with these files. */
function source(name: string, files: Record<string, string | Buffer>): string {
  const folder = join(world.dir, 'data', name);
  mkdirSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}
const intentOf = (name: string, more = '') =>
  `label_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nsource: ${join(world.dir, 'data', name)}\ndestination: ${nas}/${name}\n${more}`;
const backup = (name: string, more = '') =>
  world.deploy(world.merge({ 'chatops/intents/nightly.yaml': intentOf(name, more) }), 'nightly');
const folderOf = (name: string) => join(nas, name, 'nightly');
const snapshots = (name: string) =>
  readdirSync(folderOf(name))
    .filter(name => /^\d{8}T\d{6}\.\d{3}Z$/.test(name))
    .sort();
const manifest = (name: string, snapshot: string) =>
  JSON.parse(readFileSync(join(folderOf(name), `${snapshot}.json`), 'utf8'));

describe('a backup of a folder', () => {
  it('is refused until its destination is the share that the host names', async () => {
    source('first', { 'a.txt': 'one\n' });
    expect(outcome(await backup('first'))).toEqual({ status: 'failed', reason: 'destination-unmarked' });
    writeFileSync(join(nas, '.chatops-backup-target'), 'another\n');
    expect(outcome(await backup('first'))).toEqual({ status: 'failed', reason: 'destination-unmarked' });
    writeFileSync(join(nas, '.chatops-backup-target'), 'nas-1\n');
    execFileSync('umount', [nas]);
    const job = await backup('first');
    expect(outcome(job)).toEqual({ status: 'failed', reason: 'destination-not-mounted' });
    expect(readdirSync(nas)).toEqual([]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'other:/share', nas]);
    expect(outcome(await backup('first'))).toEqual({ status: 'failed', reason: 'destination-not-mounted' });
    execFileSync('umount', [nas]);
    mount('64m');
    writeFileSync(join(nas, '.chatops-backup-target'), 'nas-1\n');
  });

  it('is complete, is read back, can be restored by hand, and shares unchanged files with the earlier backup', async () => {
    const folder = source('files', {
      'same.bin': Buffer.alloc(300_000, 7),
      'deep/er/x y.txt': 'old\n',
      '-dash': 'd',
      'cache/tmp': 'no',
    });
    execFileSync('ln', ['-s', 'same.bin', join(folder, 'link')]);
    const first = await backup(
      'files',
      'exclude: ["cache/"]\nkeep: {last: 2}\nmin_keep: 1\nnotes: before the update\n',
    );
    expect(outcome(first), first.log).toEqual({ status: 'succeeded', reason: '' });
    writeFileSync(join(folder, 'deep/er/x y.txt'), 'new\n');
    const second = await backup('files', 'exclude: ["cache/"]\nkeep: {last: 2}\nmin_keep: 1\n');
    expect(outcome(second), second.log).toEqual({ status: 'succeeded', reason: '' });
    const [older = '', newer = ''] = snapshots('files');
    const inode = (snapshot: string, path: string) => statSync(join(folderOf('files'), snapshot, path)).ino;
    expect(inode(older, 'same.bin')).toBe(inode(newer, 'same.bin'));
    expect(readFileSync(join(folderOf('files'), older, 'deep/er/x y.txt'), 'utf8')).toBe('old\n');
    expect(manifest('files', older)).toMatchObject({
      kind: 'docker_volumes',
      name: 'nightly',
      files: 4,
      bytes: 300_005,
      notes: 'before the update',
    });
    expect(existsSync(join(folderOf('files'), newer, 'cache'))).toBe(false);

    // The commands of the recovery card, as an operator types them.
    const card = readFileSync(join(folderOf('files'), 'RESTORE.md'), 'utf8');
    const check = /^ {4}(cd .*)$/m.exec(card)?.[1]?.replace('<folder>', join(folderOf('files'), newer)) ?? '';
    expect(execFileSync('bash', ['-c', check], { encoding: 'utf8' }).split(' ')[0]).toBe(
      manifest('files', newer).sha256,
    );
    const restored = join(world.dir, 'restored');
    execFileSync('rsync', [
      '--archive',
      '--hard-links',
      '--numeric-ids',
      '--',
      `${join(folderOf('files'), newer)}/`,
      `${restored}/`,
    ]);
    expect(
      execFileSync('diff', ['-r', '--no-dereference', '--exclude=cache', folder, restored], { encoding: 'utf8' }),
    ).toBe('');

    const third = await backup('files', 'exclude: ["cache/"]\nkeep: {last: 2}\nmin_keep: 1\n');
    expect(third.log).toContain(`prune ${older}: no rule keeps it`);
    expect(snapshots('files')).toHaveLength(2);
    const document = JSON.parse(third.outputs.result ?? '').receipts[0].documents[0];
    expect(document.backup).toMatchObject({
      verified: true,
      files: 4,
      archive: join(folderOf('files'), snapshots('files')[1] ?? ''),
    });
    expect(await world.host.metrics()).toMatch(
      /chatops_backup_last_verified_timestamp_seconds\{kind="docker_volumes",name="nightly"\} 1\d{9}/,
    );
  });

  it.each([
    ['an empty folder', 'empty', {}, 'source-empty'],
    ['a folder that does not exist', 'nowhere', undefined, 'source-missing'],
  ])('is refused for %s', async (_, name, files, code) => {
    if (files) source(name, files);
    expect(outcome(await backup(name))).toEqual({ status: 'failed', reason: code });
    expect(existsSync(folderOf(name)) && snapshots(name).length > 0).toBe(false);
  });

  it('is refused for a source that lost more than half of its files, unless the intent accepts it', async () => {
    const folder = source('shrinks', { a: 'x', b: 'y', c: 'z', d: '!' });
    await backup('shrinks');
    for (const name of ['a', 'b', 'c']) rmSync(join(folder, name));
    const job = await backup('shrinks');
    expect(outcome(job), job.log).toEqual({ status: 'failed', reason: 'source-shrank' });
    expect(outcome(await backup('shrinks', 'accept_shrink: true\n'))).toEqual({ status: 'succeeded', reason: '' });
  });

  it('fails when it fills the destination, keeps the earlier backups, and starts the services that it stopped', async () => {
    const folder = source('fills', { small: 'x' });
    await backup('fills');
    const before = snapshots('fills');
    world.stack('fills', {
      'compose.yaml':
        'services:\n  app:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n  side:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n',
    });
    await world.deploy(
      world.merge({ 'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: fills\n` }),
      'up',
    );
    docker('stop', 'fills-side-1');
    writeFileSync(join(folder, 'big'), Buffer.alloc(80 * 1024 * 1024, 1));
    const job = await backup('fills', 'stack: fills\nstop_services: [app, side]\n');
    expect(outcome(job), job.log).toEqual({ status: 'failed', reason: 'destination-full' });
    expect(job.log).toContain('No space left on device');
    expect(snapshots('fills')).toEqual(before);
    const running = docker('ps', '--format', '{{.Names}}', '--filter', 'label=com.docker.compose.project=fills').trim();
    expect(running).toBe('fills-app-1');
    expect(readdirSync(folderOf('fills')).filter(name => name.includes('.partial'))).toEqual([]);
    rmSync(join(folder, 'big'));
  });

  it('finishes after the agent is killed in any step, and starts the services that it stopped', {
    timeout: 120_000,
  }, async () => {
    source('killed', Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`${n}`, Buffer.alloc(100_000, n)])));
    for (const step of ['check the source', 'copy', 'start', 'read back']) {
      let killed = false;
      const more = 'stack: fills\nstop_services: [app]\noptions: ["--bwlimit=4000"]\n';
      const job = await world.deploy(
        world.merge({ 'chatops/intents/nightly.yaml': intentOf('killed', more) }),
        'nightly',
        {
          onLog: chunk => {
            if (killed || !chunk.includes(`::group::${step}\n`)) return;
            killed = true;
            void world.host.stop('SIGKILL').then(() => world.host.start(policy()));
          },
        },
      );
      expect({ killed, ...outcome(job) }, job.log).toEqual({ killed: true, status: 'succeeded', reason: '' });
      expect(docker('inspect', '--format', '{{.State.Running}}', 'fills-app-1').trim()).toBe('true');
      const last = snapshots('killed').at(-1) ?? '';
      expect(manifest('killed', last)).toMatchObject({ files: 60, bytes: 6_000_000 });
      rmSync(join(folderOf('killed'), last), { recursive: true });
      rmSync(join(folderOf('killed'), `${last}.json`));
    }
  });

  it('removes deleted files from its copy with the method "mirror"', async () => {
    const folder = source('mirrored', { a: '1', b: '2' });
    expect(outcome(await backup('mirrored', 'method: mirror\n'))).toEqual({ status: 'succeeded', reason: '' });
    rmSync(join(folder, 'b'));
    expect(outcome(await backup('mirrored', 'method: mirror\n'))).toEqual({ status: 'succeeded', reason: '' });
    expect(readdirSync(join(folderOf('mirrored'), 'mirror'))).toEqual(['a']);
  });

  it('is refused for a source or a destination outside of its roots, and for a forbidden option', async () => {
    const outside = `label_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nsource: /etc\ndestination: ${nas}/x\n`;
    const job = await world.deploy(world.merge({ 'chatops/intents/out.yaml': outside }), 'out');
    expect(outcome(job)).toEqual({ status: 'refused', reason: 'path-outside' });
    source('inside', { a: 'a' });
    const elsewhere = intentOf('inside').replace(`${nas}/inside`, '/tmp/elsewhere');
    expect(outcome(await world.deploy(world.merge({ 'chatops/intents/to.yaml': elsewhere }), 'to'))).toEqual({
      status: 'refused',
      reason: 'path-outside',
    });
    const option = await backup('inside', 'options: ["-e", "id"]\n');
    expect(outcome(option)).toEqual({
      status: 'failed',
      reason: 'option-not-allowed',
    });
  });
});
