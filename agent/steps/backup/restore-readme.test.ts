import { describe, expect, it } from 'vitest';
import type { BackupDescription, BackupKind } from '../../plan/backup-manifest.ts';
import { renderRestoreReadme } from './restore-readme.ts';

const manifest = (kind: BackupKind, changes: Partial<BackupDescription> = {}): BackupDescription => ({
  ...{ kind, name: 'nightly', run: 'run-00000', at: '2026-11-20T06:00:00.000Z', source: 'db:shop' },
  ...{ file: 'shop.sql.zst', database: 'shop', ...changes },
});

describe('the page RESTORE.md', () => {
  it.each<[BackupKind, string]>([
    ['docker_volumes', 'rsync --archive'],
    ['sqlite', 'cp -- <folder>/shop.sql.zst'],
    ['postgres', 'pg_restore --exit-on-error --dbname=shop_restored'],
    ['mysql', 'zstd -dc <folder>/shop.sql.zst > dump.sql'],
    ['plex', 'tar --extract'],
  ])('names the commands for %s', (kind, command) => {
    const page = renderRestoreReadme(manifest(kind));
    expect(page).toContain('# How to restore "nightly" by hand');
    expect(page).toContain(`    ${command}`);
  });

  it.each<[BackupKind]>([['sqlite'], ['postgres'], ['mysql']])('quotes names for a shell: %s', kind => {
    const page = renderRestoreReadme(manifest(kind, { file: "x;touch pwned;'.db", database: '$(id)' }));
    expect(page).toContain("<folder>/'x;touch pwned;'\\''.db'");
    expect(page).not.toMatch(/^ {4}.*=?\$\(id\)_restored(?!')/m);
  });

  it('checks a folder by its list, an archive by its digest, and leaves restic to its own check', () => {
    const checks = (changes: Partial<BackupDescription>) =>
      renderRestoreReadme(manifest('plex', changes)).match(/sha256sum --check|run sha256sum/)?.[0];
    expect(checks({})).toBe('sha256sum --check');
    expect(checks({ parts: ['library.db'] })).toBe('run sha256sum');
    expect(checks({ snapshot: '843879b9' })).toBeUndefined();
  });
});
