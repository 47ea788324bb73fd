import { describe, expect, it } from 'vitest';
import { parseManifest } from './backup-manifest.ts';

const GOOD = {
  ...{ schema_version: 1, kind: 'docker_volumes', name: 'content', run: '0b7c2c1e-0000-4000-8000-000000000000' },
  ...{
    at: '2026-11-21T06:00:00.000Z',
    source: '/var/lib/docker/volumes/x/_data',
    bytes: 1,
    files: 1,
    sha256: 'a'.repeat(64),
  },
  verified_at: '2026-11-21T06:01:00.000Z',
};
const read = (changes: object) => parseManifest(JSON.stringify({ ...GOOD, ...changes }));

describe('a manifest stored next to a backup', () => {
  it.each([
    {},
    {
      kind: 'sqlite',
      file: 'app database.db',
      source: 'vault:/data/app database.db',
      image: `sha256:${'b'.repeat(64)}`,
    },
    {
      kind: 'plex',
      file: '/usr/lib/plexmediaserver/Plex SQLite',
      parts: ['com.plexapp.plugins.library.db', 'Preferences.xml'],
    },
    {
      kind: 'postgres',
      file: 'dump.pgc',
      database: 'app',
      image: 'registry.example.org:5000/postgres:16-alpine@sha256:00',
    },
    { snapshot: '843879b9', parent: '20261120T060000.000Z', notes: 'a note\nof two lines', protected: true },
    { drill: { at: '2026-11-21T07:00:00.000Z', seconds: 1.5 }, broken: { at: '2026-11-22T06:00:00.000Z', why: 'x' } },
    { field_of_a_newer_agent: { kept: true } },
  ])('is read with all its fields: %o', changes => {
    expect(read(changes)).toMatchObject({ ...GOOD, ...changes });
  });

  it.each<[string, object]>([
    ['an option in place of a snapshot', { snapshot: '--password-command=id' }],
    ['an option in place of an image', { kind: 'postgres', image: '--volume=/:/host' }],
    ['an option in place of a database', { database: '--command=id' }],
    ['a file outside its folder', { kind: 'sqlite', file: '../../../etc/shadow' }],
    ['a file that is a path', { kind: 'sqlite', file: '/etc/shadow' }],
    ['a program path with ".."', { kind: 'plex', file: '/usr/lib/../../bin/sh' }],
    ['a part outside the archive', { kind: 'plex', parts: ['../../etc/passwd'] }],
    ['a part that is an option', { kind: 'plex', parts: ['--checkpoint-action=exec=id'] }],
    ['a parent outside the folder', { parent: '../../state' }],
    ['a source with ".."', { source: '/var/lib/docker/volumes/../../../etc' }],
    ['a source that is an option', { source: '-x' }],
    ['a name that is a path', { name: '../x' }],
    ['an unknown kind', { kind: 'shell' }],
    ['a malformed time', { at: 'latest' }],
    ['a malformed digest', { sha256: '$(id)' }],
    ['a NUL character', { notes: 'a\0b' }],
    ['a negative size', { bytes: -1 }],
  ])('is rejected if it has %s', (_, changes) => {
    expect(read(changes)).toBeUndefined();
  });

  it.each(['', 'null', '[]', '{', '"x"', '{"__proto__":{"kind":"sqlite"}}'])('is rejected: %s', text => {
    expect(parseManifest(text)).toBeUndefined();
  });
});
