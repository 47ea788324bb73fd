import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PLEX_DATABASES, plexImage } from './stand/images.ts';
import { eventually, Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

const LIBRARY = 'com.plexapp.plugins.library.db';
let vault: Vault;
let plex: string;
let config: string;
beforeAll(async () => {
  vault = new Vault();
  config = join(vault.data, 'config');
  mkdirSync(config);
  await vault.start();
  plex = vault.container('chatops-plex', '--volume', `${config}:/config`, plexImage());
  await eventually(() => expect(count()).toBeGreaterThan(200));
});
afterAll(() => vault[Symbol.asyncDispose]());

const databases = () => join(config, PLEX_DATABASES.slice('/config/'.length));
/** Counts the rows of the live library with the container's own program. */
const count = () =>
  Number(
    docker(
      'exec',
      plex,
      '/usr/lib/plexmediaserver/Plex SQLite',
      '-readonly',
      `${PLEX_DATABASES}/${LIBRARY}`,
      '.timeout 10000',
      'SELECT count(*) FROM metadata_items',
    ),
  );
const intent = (more = '') =>
  `action: backup\ndatabase_type: plex\nsource_container: ${plex}\ndestination: ${vault.nas}\n${more}`;
const backup = (more?: string) => vault.run('px', intent(more));
const restore = (more = 'confirm_overwrite: true\n') =>
  vault.run('back', `action: restore\nof: {kind: plex, name: px}\nfrom: ${vault.nas}\nto_container: ${plex}\n${more}`);

/** Extracts an archive and returns the rows of both tables, SQLite's integrity check, and the file names. */
function open(archive: string) {
  const into = join(vault.dir, 'opened', archive);
  mkdirSync(into, { recursive: true });
  execFileSync('tar', ['--extract', '--file', join(vault.nas, 'px', archive), '--directory', into]);
  const names = readdirSync(into).sort();
  const copy = new DatabaseSync(join(into, LIBRARY), { readOnly: true });
  const rows = copy
    .prepare('SELECT (SELECT count(*) FROM metadata_items) AS items, (SELECT count(*) FROM media_parts) AS parts')
    .get();
  const check = copy.prepare('PRAGMA integrity_check').get()?.integrity_check;
  copy.close();
  return { ...(rows as { items: number; parts: number }), check, names };
}

describe('a backup of Plex', () => {
  it('makes 30 consistent backups out of 30 while Plex runs and writes', { timeout: 480_000 }, async () => {
    const counts: number[] = [];
    for (let n = 0; n < 30; n++) {
      const done = await backup('keep: {last: 40}\n');
      expect({ exit: done.code, reason: done.reason }, done.log).toEqual({ exit: 0, reason: '' });
      const { items, parts, check } = open(vault.kept('px').at(-1) ?? '');
      expect({ partOfBatch: items % 200, parts, check }).toEqual({ partOfBatch: 0, parts: items, check: 'ok' });
      counts.push(items);
    }
    expect(vault.kept('px')).toHaveLength(30);
    expect(counts).toEqual(counts.toSorted((x, y) => x - y));
    expect(new Set(counts).size).toBeGreaterThan(25);
    // No partial file remains at the destination or in the container.
    expect({
      leftovers: vault.leftovers('px'),
      copies: readdirSync(databases()).filter(name => name.includes('chatops')),
    }).toEqual({ leftovers: [], copies: [] });
  });

  it('stores a timestamped archive of both Plex databases and the preferences, and prunes by its rules', async () => {
    const done = await backup('compress: gzip\nretention_days: 14\nmin_keep: 2\n');
    expect(done.code, done.log).toBe(0);
    const kept = vault.kept('px');
    expect(kept).toHaveLength(2);
    expect(kept.at(-1)).toMatch(/^plex-\d{8}T\d{6}\.\d{3}Z\.tar\.gz$/);
    expect(open(kept.at(-1) ?? '').names).toEqual(['Preferences.xml', 'com.plexapp.plugins.library.blobs.db', LIBRARY]);
    expect(statSync(join(vault.nas, 'px', kept.at(-1) ?? '')).mode & 0o077).toBe(0);
  });

  it('stops Plex for a backup, and starts it again only if it ran before', async () => {
    const done = await backup('method: stop\n');
    expect({ exit: done.code, logsStop: done.log.includes('docker container stop') }, done.log).toEqual({
      exit: 0,
      logsStop: true,
    });
    const { items, parts, check } = open(vault.kept('px').at(-1) ?? '');
    expect({ partOfBatch: items % 200, parts, check }).toEqual({ partOfBatch: 0, parts: items, check: 'ok' });
    expect(docker('inspect', '--format', '{{.State.Running}}', plex).trim()).toBe('true');
    docker('stop', plex);
    expect((await backup()).reason).toBe('container-stopped');
    const stopped = await backup('method: stop\n');
    expect(
      { exit: stopped.code, running: docker('inspect', '--format', '{{.State.Running}}', plex).trim() },
      stopped.log,
    ).toEqual({ exit: 0, running: 'false' });
    docker('start', plex);
    await eventually(() => count());
  });

  it('refuses a source that is not a Plex folder, and stores no backup of a damaged library', async () => {
    const done = await vault.run('px', intent('source_path: /tmp\n'));
    expect(done.reason, done.log).toBe('source-missing');
    const before = vault.kept('px');
    docker(
      'exec',
      plex,
      '/usr/lib/plexmediaserver/Plex SQLite',
      `${PLEX_DATABASES}/com.plexapp.plugins.library.blobs.db`,
      'DROP TABLE metadata_items; DROP TABLE media_parts;',
    );
    const empty = await backup();
    expect({ reason: empty.reason, kept: vault.kept('px'), leftovers: vault.leftovers('px') }, empty.log).toEqual({
      reason: 'backup-broken',
      kept: before,
      leftovers: [],
    });
    docker(
      'exec',
      plex,
      '/usr/lib/plexmediaserver/Plex SQLite',
      `${PLEX_DATABASES}/com.plexapp.plugins.library.blobs.db`,
      'CREATE TABLE metadata_items (n); CREATE TABLE media_parts (n);',
    );
  });

  it('drills a Plex backup, and restores it while Plex is stopped, without replaying an old log', async () => {
    await backup();
    const name = vault.kept('px').at(-1) ?? '';
    const drill = await vault.run('try', `action: drill\nof: {kind: plex, name: px}\nfrom: ${vault.nas}\n`);
    expect({ exit: drill.code, logsRestoreTime: drill.log.includes('restored in') }, drill.log).toEqual({
      exit: 0,
      logsRestoreTime: true,
    });
    const { items } = open(name);
    await eventually(() => expect(count()).toBeGreaterThan(items + 2000));
    expect((await restore('')).reason).toBe('overwrite-unconfirmed');
    const done = await restore();
    expect(done.code, done.log).toBe(0);
    await eventually(() => count());
    const files = readdirSync(databases());
    const aside = files.find(file => file.startsWith(`${LIBRARY}.before-`) && !/-(wal|shm)$/.test(file)) ?? '';
    const old = new DatabaseSync(join(databases(), aside), { readOnly: true });
    expect(old.prepare('SELECT count(*) AS n FROM metadata_items').get()?.n).toBeGreaterThan(items + 2000);
    old.close();
    expect(count() % 200).toBe(0);
  });

  it('swaps the old Plex library back if the restore fails its check', async () => {
    vault.stack('app', { 'compose.yaml': 'services: {}\n' });
    const before = count();
    const done = await restore(
      'confirm_overwrite: true\nstack: app\nverify: {tcp: {address: "127.0.0.1:1", retries: 0}}\n',
    );
    expect({ reason: done.reason, logsSwapBack: done.log.includes('✓ swap library back') }, done.log).toEqual({
      reason: 'undo-failed',
      logsSwapBack: true,
    });
    await eventually(() => expect(count()).toBeGreaterThanOrEqual(before));
    expect(readdirSync(databases()).filter(name => name.includes('restoring'))).toEqual([]);
  });

  it('refuses to drill or restore a Plex archive with a changed byte', async () => {
    const name = vault.kept('px').at(-1) ?? '';
    const file = openSync(join(vault.nas, 'px', name), 'r+');
    writeSync(file, 'X', 2000);
    closeSync(file);
    const at = `at: ${name}\n`;
    expect((await restore(`confirm_overwrite: true\n${at}`)).reason).toBe('backup-broken');
    expect(
      (await vault.run('try', `action: drill\nof: {kind: plex, name: px}\nfrom: ${vault.nas}\n${at}`)).reason,
    ).toBe('backup-broken');
    expect(docker('inspect', '--format', '{{.State.Running}}', plex).trim()).toBe('true');
  });
});
