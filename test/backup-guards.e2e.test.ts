import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, Vault } from './stand/vault.ts';

let vault: Vault;
beforeAll(async () => {
  vault = await new Vault().start();
});
afterAll(() => vault[Symbol.asyncDispose]());

function source(name: string, files: Record<string, string | Buffer>): string {
  const folder = join(vault.data, name);
  mkdirSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) writeFileSync(join(folder, path), content);
  return folder;
}
const intent = (name: string, more = '') =>
  `action: backup\nbackup_type: docker_volumes\nsource: ${join(vault.data, name)}\ndestination: ${vault.nas}\n${more}`;
const backup = (name: string, more?: string, ...args: string[]) => vault.run(name, intent(name, more), ...args);
/** Changes one byte, and leaves size and time as they were: as a disk does. */
function rot(file: string): void {
  execFileSync('cp', ['--preserve=timestamps', file, join(vault.dir, 'before')]);
  const bytes = readFileSync(file);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  execFileSync('touch', ['-r', join(vault.dir, 'before'), file]);
}

describe('a backup of a folder', () => {
  it('shows its progress as a percentage, and can be checked file by file with what lies beside it', async () => {
    source('big', { one: Buffer.alloc(3_000_000, 1), 'a\\b': 'x' });
    const done = await backup('big');
    expect({ exit: done.code, matchingLog: /\b100%/.test(done.log) }, done.log).toEqual({ exit: 0, matchingLog: true });
    const [name = ''] = vault.kept('big');
    const check = () =>
      execFileSync('sha256sum', ['--check', '--quiet', `../${name}.sha256`], {
        cwd: join(vault.nas, 'big', name),
        stdio: 'pipe',
      });
    check();
    expect(vault.manifest('big', name)).toMatchObject({
      checks: ['sha256 of every file'],
      versions: { rsync: expect.stringContaining('rsync  version') },
    });
    rot(join(vault.nas, 'big', name, 'one'));
    expect(check).toThrow();
  });

  it('plans with what would be pruned, and why', async () => {
    source('planned', { a: 'a' });
    for (let n = 0; n < 3; n++) expect((await backup('planned')).code).toBe(0);
    const [oldest] = vault.kept('planned');
    const plan = await backup('planned', 'keep: {last: 2}\nmin_keep: 1\n', '--plan');
    expect(plan.log).toContain(`${oldest}: remove (no rule keeps it)`);
    expect(vault.kept('planned')).toHaveLength(3);
  });

  it('of a live database is refused, unless it is held still or meant', async () => {
    source('live', { 'app.db': 'x', 'app.db-wal': 'y' });
    const done = await backup('live');
    expect({ reason: done.reason, logNamesAppDbWal: done.log.includes('app.db-wal') }, done.log).toEqual({
      reason: 'database-live',
      logNamesAppDbWal: true,
    });
    expect((await backup('live', 'consistency: live\n')).code).toBe(0);
  });

  it('can be compared with its source while that is held still', async () => {
    source('compared', { a: 'a', b: 'b' });
    const done = await backup('compared', 'consistency: stop\nverify_level: compare\n');
    expect({ exit: done.code, logNamesCompare: done.log.includes('── compare') }, done.log).toEqual({
      exit: 0,
      logNamesCompare: true,
    });
    // What rsync takes for the same by size and time is not: only reading both shows it.
    rot(join(vault.data, 'compared', 'a'));
    const other = await backup('compared', 'consistency: stop\nverify_level: compare\n');
    expect({ reason: other.reason, keptCount: vault.kept('compared').length }, other.log).toEqual({
      reason: 'backup-broken',
      keptCount: 1,
    });
    const alone = await backup('compared', 'verify_level: compare\n');
    expect(alone.log).toContain('Expected "consistency"');
  });

  it('does not carry on what a disk has changed: the one before is marked, and the next copies anew', async () => {
    source('rotten', { kept: Buffer.alloc(100_000, 7), other: 'x' });
    await backup('rotten');
    const [first = ''] = vault.kept('rotten');
    rot(join(vault.nas, 'rotten', first, 'kept'));
    const seen = await backup('rotten', 'keep: {last: 1}\nmin_keep: 1\n');
    expect({ reason: seen.reason, kept: vault.kept('rotten'), leftovers: vault.leftovers('rotten') }, seen.log).toEqual(
      { reason: 'backup-broken', kept: [first], leftovers: [] },
    );
    expect(vault.manifest('rotten', first).broken.why).toContain('kept');
    const next = await backup('rotten', 'keep: {last: 1}\nmin_keep: 1\n');
    expect({ exit: next.code, logNamesLinkDest: next.log.includes('--link-dest') }, next.log).toEqual({
      exit: 0,
      logNamesLinkDest: false,
    });
    // What is broken counts for nothing, and the new one is whole.
    expect(
      readFileSync(join(vault.nas, 'rotten', vault.kept('rotten').at(-1) ?? '', 'kept')).equals(
        Buffer.alloc(100_000, 7),
      ),
    ).toBe(true);
  });

  it.each([
    ['options: ["--rsync-path=id"]\n', 'option-not-allowed'],
    ['options: ["-aHe"]\n', 'option-not-allowed'],
    ['options: ["--bwlimit=1;id"]\n', 'option-not-allowed'],
    ['exclude: ["a\\tb"]\n', 'exclude-not-allowed'],
  ])('with %s is refused', async (more, code) => {
    source('careful', { a: 'a' });
    expect((await backup('careful', more)).reason).toBe(code);
  });

  it('takes a pattern that begins with "!" or "+ " for what it is: something to leave out', async () => {
    source('patterns', { secret: 's', '+ secret': 'p', '!': 'b', kept: 'k' });
    const done = await backup('patterns', 'exclude: ["secret", "!", "+ secret"]\n');
    expect(
      { exit: done.code, entries: readdirSync(join(vault.nas, 'patterns', vault.kept('patterns')[0] ?? '')) },
      done.log,
    ).toEqual({ exit: 0, entries: ['kept'] });
  });

  it('that finds what it needs taken waits its turn, or for as long as it is told', async () => {
    const fill = (with_: number) =>
      source('twice', Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`${n}`, Buffer.alloc(100_000, with_)])));
    fill(1);
    const slow = intent('twice', 'options: ["--bwlimit=1500"]\n');
    const first = await vault.run('twice', slow, '--detach');
    const second = await backup('twice', 'lock_wait: 200ms\n');
    expect(
      { exit: second.code, reason: second.reason, logNames: second.log.includes(first.log.trim()) },
      second.log,
    ).toEqual({ exit: 1, reason: 'locked', logNames: true });
    const third = await backup('twice');
    expect({ exit: third.code, keptCount: vault.kept('twice').length }, third.log).toEqual({ exit: 0, keptCount: 2 });
    // Another source into the same folder waits as well.
    source('other', { a: 'a' });
    fill(2);
    await vault.run('twice', slow, '--detach');
    const other = await vault.run('twice', intent('other', 'lock_wait: 200ms\n'));
    expect(other.reason, other.log).toBe('locked');
    await eventually(() => expect(vault.kept('twice')).toHaveLength(3));
  });

  it('keeps its figures when the agent is started again', async () => {
    source('counted', { a: 'a' });
    await backup('counted');
    await vault.run('try', `action: drill\nof: counted\nfrom: ${vault.nas}\n`);
    const figures = async () =>
      (await vault.host.metrics()).split('\n').filter(line => /^chatops_backup_.*name="counted"/.test(line));
    const before = await figures();
    expect(before.map(line => line.split('{')[0]).sort()).toEqual([
      'chatops_backup_drill_duration_seconds',
      'chatops_backup_duration_seconds',
      'chatops_backup_last_drill_timestamp_seconds',
      'chatops_backup_last_success_timestamp_seconds',
      'chatops_backup_last_verified_timestamp_seconds',
      'chatops_backup_size_bytes',
    ]);
    await vault.host.stop();
    await vault.host.start(vault.policy);
    expect(await figures()).toEqual(before);
  });

  it('as a mirror does not let go of ten thousand files at once, unless that is meant', {
    timeout: 120_000,
  }, async () => {
    const folder = source('mass', {});
    for (let n = 0; n < 25_000; n++) writeFileSync(join(folder, `${n}`), '');
    const mirror = (more = '') => backup('mass', `method: mirror\n${more}`);
    expect((await mirror()).code).toBe(0);
    for (let n = 0; n < 10_001; n++) rmSync(join(folder, `${n}`));
    const done = await mirror();
    expect(done.reason, done.log.slice(-2000)).toBe('mass-deletion');
    expect((await mirror('accept_shrink: true\n')).code).toBe(0);
    expect(readdirSync(join(vault.nas, 'mass', 'mirror'))).toHaveLength(14_999);
  });

  it('copies once more what vanished meanwhile', async () => {
    const folder = source(
      'moving',
      Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`${n + 10}`, Buffer.alloc(100_000, n)])),
    );
    const started = await vault.run('moving', intent('moving', 'options: ["--bwlimit=2000"]\n'), '--detach');
    // Once the first file is there rsync has its list, and the last one is far.
    const begun = () => vault.leftovers('moving').find(name => name.includes('.partial')) ?? 'none';
    await eventually(() => expect(readdirSync(join(vault.nas, 'moving', begun()))).toContain('10'));
    rmSync(join(folder, '39'));
    const log = await vault.host.chatops(['logs', started.log.trim(), '-f']);
    expect(
      {
        exit: log.code,
        stdoutNamesVanished: log.stdout.includes('vanished'),
        stdoutNamesAgainIn2S: log.stdout.includes('again in 2 s'),
      },
      log.stdout,
    ).toEqual({ exit: 0, stdoutNamesVanished: true, stdoutNamesAgainIn2S: true });
    expect(readdirSync(join(vault.nas, 'moving', vault.kept('moving')[0] ?? ''))).toHaveLength(29);
  });

  it('is tried by a drill, which finds a lost byte and leaves nothing behind', async () => {
    source('tried', { a: 'a', b: 'b' });
    await backup('tried');
    const drill = () => vault.run('try', `action: drill\nof: tried\nfrom: ${vault.nas}\n`);
    const done = await drill();
    expect(
      { exit: done.code, logNamesCheckWhatWasRestored: done.log.includes('check what was restored') },
      done.log,
    ).toEqual({ exit: 0, logNamesCheckWhatWasRestored: true });
    rot(join(vault.nas, 'tried', vault.kept('tried')[0] ?? '', 'a'));
    expect((await drill()).reason).toBe('backup-broken');
    expect(readdirSync(join(vault.host.state, 'backups')).filter(name => name.startsWith('drill'))).toEqual([]);
    // The only one is broken now: the newest that is not, is none.
    expect((await drill()).reason).toBe('backup-unknown');
    rmSync(join(vault.nas, 'tried'), { recursive: true });
  });
});
