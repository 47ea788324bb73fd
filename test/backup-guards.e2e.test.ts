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
/** Changes one byte and keeps size and time, like a failing disk. */
function corrupt(file: string): void {
  execFileSync('cp', ['--preserve=timestamps', file, join(vault.dir, 'before')]);
  const bytes = readFileSync(file);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  execFileSync('touch', ['-r', join(vault.dir, 'before'), file]);
}

describe('a backup of a folder', () => {
  it('shows its progress as a percentage, and the checksum file next to it finds a changed file', async () => {
    source('big', { one: Buffer.alloc(3_000_000, 1), 'a\\b': 'x' });
    const done = await backup('big');
    expect({ exit: done.code, logShowsProgress: /\b100%/.test(done.log) }, done.log).toEqual({
      exit: 0,
      logShowsProgress: true,
    });
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
    corrupt(join(vault.nas, 'big', name, 'one'));
    expect(check).toThrow();
  });

  it('lists in its plan the backups that it would prune, and the reason', async () => {
    source('planned', { a: 'a' });
    for (let n = 0; n < 3; n++) expect((await backup('planned')).code).toBe(0);
    const [oldest] = vault.kept('planned');
    const plan = await backup('planned', 'keep: {last: 2}\nmin_keep: 1\n', '--plan');
    expect(plan.log).toContain(`${oldest}: remove (no rule keeps it)`);
    expect(vault.kept('planned')).toHaveLength(3);
  });

  it('is refused for a live database, unless the intent allows a live copy', async () => {
    source('live', { 'app.db': 'x', 'app.db-wal': 'y' });
    const done = await backup('live');
    expect({ reason: done.reason, logNamesWalFile: done.log.includes('app.db-wal') }, done.log).toEqual({
      reason: 'database-live',
      logNamesWalFile: true,
    });
    expect((await backup('live', 'consistency: live\n')).code).toBe(0);
  });

  it('is compared byte by byte with its source while the source is quiesced', async () => {
    source('compared', { a: 'a', b: 'b' });
    const done = await backup('compared', 'consistency: stop\nverify_level: compare\n');
    expect({ exit: done.code, logShowsComparison: done.log.includes('── compare') }, done.log).toEqual({
      exit: 0,
      logShowsComparison: true,
    });
    // Size and time are equal, so rsync copies nothing: only reading both files shows the difference.
    corrupt(join(vault.data, 'compared', 'a'));
    const other = await backup('compared', 'consistency: stop\nverify_level: compare\n');
    expect({ reason: other.reason, backups: vault.kept('compared').length }, other.log).toEqual({
      reason: 'backup-broken',
      backups: 1,
    });
    const withoutConsistency = await backup('compared', 'verify_level: compare\n');
    expect(withoutConsistency.log).toContain('Expected "consistency"');
  });

  it('does not reuse a corrupted file: the earlier backup is marked as broken, and the next copies all files again', async () => {
    source('rotten', { kept: Buffer.alloc(100_000, 7), other: 'x' });
    await backup('rotten');
    const [first = ''] = vault.kept('rotten');
    corrupt(join(vault.nas, 'rotten', first, 'kept'));
    const failed = await backup('rotten', 'keep: {last: 1}\nmin_keep: 1\n');
    expect(
      { reason: failed.reason, kept: vault.kept('rotten'), leftovers: vault.leftovers('rotten') },
      failed.log,
    ).toEqual({ reason: 'backup-broken', kept: [first], leftovers: [] });
    expect(vault.manifest('rotten', first).broken.why).toContain('kept');
    const next = await backup('rotten', 'keep: {last: 1}\nmin_keep: 1\n');
    expect({ exit: next.code, logNamesLinkDestination: next.log.includes('--link-dest') }, next.log).toEqual({
      exit: 0,
      logNamesLinkDestination: false,
    });
    // Retention ignores the broken backup, and the new one is complete.
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
  ])('is refused with %s', async (more, code) => {
    source('careful', { a: 'a' });
    expect((await backup('careful', more)).reason).toBe(code);
  });

  it('excludes a file by a pattern that starts with "!" or "+ "', async () => {
    source('patterns', { secret: 's', '+ secret': 'p', '!': 'b', kept: 'k' });
    const done = await backup('patterns', 'exclude: ["secret", "!", "+ secret"]\n');
    expect(
      { exit: done.code, entries: readdirSync(join(vault.nas, 'patterns', vault.kept('patterns')[0] ?? '')) },
      done.log,
    ).toEqual({ exit: 0, entries: ['kept'] });
  });

  it('waits until another backup releases its lock, or fails after lock_wait', async () => {
    const fill = (byte: number) =>
      source('twice', Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`${n}`, Buffer.alloc(100_000, byte)])));
    fill(1);
    const slow = intent('twice', 'options: ["--bwlimit=1500"]\n');
    const first = await vault.run('twice', slow, '--detach');
    const second = await backup('twice', 'lock_wait: 200ms\n');
    expect(
      { exit: second.code, reason: second.reason, logNamesHolder: second.log.includes(first.log.trim()) },
      second.log,
    ).toEqual({ exit: 1, reason: 'locked', logNamesHolder: true });
    const third = await backup('twice');
    expect({ exit: third.code, backups: vault.kept('twice').length }, third.log).toEqual({ exit: 0, backups: 2 });
    // A backup of another source into the same folder waits too.
    source('other', { a: 'a' });
    fill(2);
    await vault.run('twice', slow, '--detach');
    const other = await vault.run('twice', intent('other', 'lock_wait: 200ms\n'));
    expect(other.reason, other.log).toBe('locked');
    await eventually(() => expect(vault.kept('twice')).toHaveLength(3));
  });

  it('keeps its metrics when the agent restarts', async () => {
    source('counted', { a: 'a' });
    await backup('counted');
    await vault.run('try', `action: drill\nof: counted\nfrom: ${vault.nas}\n`);
    const backupMetrics = async () =>
      (await vault.host.metrics()).split('\n').filter(line => /^chatops_backup_.*name="counted"/.test(line));
    const before = await backupMetrics();
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
    expect(await backupMetrics()).toEqual(before);
  });

  it('refuses to delete more than ten thousand files of a mirror at once, unless the intent accepts it', {
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

  it('copies again when a file vanished during the copy', async () => {
    const folder = source(
      'moving',
      Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`${n + 10}`, Buffer.alloc(100_000, n)])),
    );
    const started = await vault.run('moving', intent('moving', 'options: ["--bwlimit=2000"]\n'), '--detach');
    // When the first file exists, rsync has its list and has not reached the last file.
    const partial = () => vault.leftovers('moving').find(name => name.includes('.partial')) ?? 'none';
    await eventually(() => expect(readdirSync(join(vault.nas, 'moving', partial()))).toContain('10'));
    rmSync(join(folder, '39'));
    const log = await vault.host.chatops(['logs', started.log.trim(), '-f']);
    expect(
      {
        exit: log.code,
        logNamesVanishedFile: log.stdout.includes('vanished'),
        logAnnouncesRetry: log.stdout.includes('again in 2 s'),
      },
      log.stdout,
    ).toEqual({ exit: 0, logNamesVanishedFile: true, logAnnouncesRetry: true });
    expect(readdirSync(join(vault.nas, 'moving', vault.kept('moving')[0] ?? ''))).toHaveLength(29);
  });

  it('is tested by a drill, which finds a changed byte and leaves nothing behind', async () => {
    source('tried', { a: 'a', b: 'b' });
    await backup('tried');
    const drill = () => vault.run('try', `action: drill\nof: tried\nfrom: ${vault.nas}\n`);
    const done = await drill();
    expect({ exit: done.code, logShowsCheck: done.log.includes('check what was restored') }, done.log).toEqual({
      exit: 0,
      logShowsCheck: true,
    });
    corrupt(join(vault.nas, 'tried', vault.kept('tried')[0] ?? '', 'a'));
    expect((await drill()).reason).toBe('backup-broken');
    expect(readdirSync(join(vault.host.state, 'backups')).filter(name => name.startsWith('drill'))).toEqual([]);
    // The only backup is broken now, so there is none to restore.
    expect((await drill()).reason).toBe('backup-unknown');
    rmSync(join(vault.nas, 'tried'), { recursive: true });
  });
});
