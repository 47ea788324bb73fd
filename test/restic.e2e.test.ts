import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Vault } from './stand/vault.ts';

let vault: Vault;
let password: string;
beforeAll(async () => {
  vault = new Vault();
  password = join(vault.dir, 'password');
  writeFileSync(password, 'correct horse\n', { mode: 0o600 });
  mkdirSync(join(vault.data, 'www', 'cache'), { recursive: true });
  write('one');
  writeFileSync(join(vault.data, 'www', 'cache', 'x'), 'no');
  await vault.host.start(policy());
});
afterAll(() => vault[Symbol.asyncDispose]());

const policy = () => ({ backups: { ...vault.policy.backups, restic: { password_file: password } } });
const write = (text: string) => writeFileSync(join(vault.data, 'www', 'index.html'), `${text}\n`);
const backup = (more = '') =>
  vault.run(
    'www',
    `action: backup\nbackup_type: docker_volumes\nmethod: restic\nsource: ${join(vault.data, 'www')}\ndestination: ${vault.nas}\nexclude: [cache]\n${more}`,
  );
const restore = (to: string, more = '') =>
  vault.run('back', `action: restore\nof: www\nfrom: ${vault.nas}\nto: ${join(vault.data, to)}\n${more}`);
const repository = () => join(vault.nas, 'www', 'repository');
const snapshots = () =>
  JSON.parse(
    execFileSync('restic', ['--repo', repository(), '--password-file', password, 'snapshots', '--json'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  ) as { id: string }[];

describe('a restic backup', () => {
  it('creates the repository, reads back all data, and applies the retention rules of every other backup type', async () => {
    const first = await backup();
    expect({ exit: first.code, reason: first.reason }, first.log).toEqual({ exit: 0, reason: '' });
    const [name = ''] = vault.kept('www');
    expect(vault.manifest('www', name)).toMatchObject({
      kind: 'docker_volumes',
      snapshot: snapshots()[0]?.id,
      checks: ['restic check, all data read'],
    });
    for (const text of ['two', 'three']) {
      write(text);
      const done = await backup('keep: {last: 2}\nmin_keep: 1\n');
      expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
    }
    expect({ keptCount: vault.kept('www').length, firstIsKept: vault.kept('www').includes(name) }).toEqual({
      keptCount: 2,
      firstIsKept: false,
    });
    expect(snapshots().map(({ id }) => id)).toEqual(
      vault.kept('www').map(kept => vault.manifest('www', kept).snapshot),
    );
    expect(
      readdirSync(join(vault.nas, 'www')).filter(file => file.startsWith('.') || file.endsWith('.forgotten')),
    ).toEqual([]);
  });

  it('restores the newest or a named restic backup without the excluded files, and restores it in a drill', async () => {
    const done = await restore('newest');
    expect(
      {
        exit: done.code,
        entries: readdirSync(join(vault.data, 'newest')),
        content: readFileSync(join(vault.data, 'newest/index.html'), 'utf8'),
      },
      done.log,
    ).toEqual({ exit: 0, entries: ['index.html'], content: 'three\n' });
    const earlier = await restore('earlier', `at: ${vault.kept('www')[0]}\n`);
    expect(
      { exit: earlier.code, content: readFileSync(join(vault.data, 'earlier/index.html'), 'utf8') },
      earlier.log,
    ).toEqual({ exit: 0, content: 'two\n' });
    const drill = await vault.run('try', `action: drill\nof: www\nfrom: ${vault.nas}\n`);
    expect({ exit: drill.code, logReportsRestore: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logReportsRestore: true,
    });
  });

  it('rejects rsync options, a missing source, and a missing or wrong restic password', async () => {
    const before = vault.kept('www');
    expect((await backup('options: ["-a"]\n')).reason).toBe('option-not-allowed');
    const missing = await vault.run(
      'gone',
      `action: backup\nbackup_type: docker_volumes\nmethod: restic\nsource: ${join(vault.data, 'gone')}\ndestination: ${vault.nas}\n`,
    );
    expect(missing.reason, missing.log).toBe('source-missing');
    writeFileSync(password, 'wrong\n');
    expect((await backup()).reason).toBe('restic-password-wrong');
    writeFileSync(password, 'correct horse\n');
    await vault.host.stop();
    await vault.host.start(vault.policy);
    expect((await backup()).reason).toBe('restic-password-missing');
    await vault.host.stop();
    await vault.host.start(policy());
    expect(vault.kept('www')).toEqual(before);
  });

  it('detects a damaged byte in the restic repository, and neither keeps the new backup nor restores an old one', async () => {
    write('four');
    const packs = execFileSync('find', [join(repository(), 'data'), '-type', 'f'], { encoding: 'utf8' })
      .trim()
      .split('\n');
    for (const pack of packs) {
      execFileSync('chmod', ['u+w', pack]);
      const file = openSync(pack, 'r+');
      writeSync(file, 'X', Math.floor(statSync(pack).size / 3));
      closeSync(file);
    }
    const before = vault.kept('www');
    const done = await backup('verify_level: full\n');
    expect({ exit: done.code, kept: vault.kept('www') }, done.log).toEqual({ exit: 1, kept: before });
    const back = await restore('broken');
    expect({ exit: back.code, exists: existsSync(join(vault.data, 'broken')) }, back.log).toEqual({
      exit: 1,
      exists: false,
    });
  });
});
