import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Refused } from '../../protocol/refusal.ts';
import { isReallyUnder, requireUnder } from './paths.ts';

let dir: string;
let root: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-paths-')));
  root = join(dir, 'root');
  for (const folder of ['root/a', 'root-twin', 'outside']) mkdirSync(join(dir, folder), { recursive: true });
  symlinkSync(join(dir, 'outside'), join(root, 'out'));
  symlinkSync(join(root, 'a'), join(root, 'in'));
  symlinkSync(root, join(dir, 'link'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const refusalOf = (path: string, under: string): Promise<string> =>
  requireUnder(path, under).then(
    () => 'accepted',
    (error: unknown) => (error instanceof Refused ? error.code : String(error)),
  );

describe('requireUnder', () => {
  it.each(['', '/', '/a', '/a/new/file', '/in', '/in/new'])('accepts root%s', async path => {
    expect(await refusalOf(root + path, root)).toBe('accepted');
    expect(await isReallyUnder(root + path, [join(dir, 'outside'), root])).toBe(true);
  });

  it.each(['/out', '/out/new/file', '/a/../out', '-twin', '-twin/a', '/..', '/a/../../outside'])(
    'refuses root%s',
    async path => {
      expect(await refusalOf(root + path, root)).toBe('path-outside');
      expect(await isReallyUnder(root + path, [join(dir, 'none'), root])).toBe(false);
    },
  );

  it('accepts a path by the real name of a root that is a link, and by the name of the link', async () => {
    expect(await refusalOf(join(root, 'a'), join(dir, 'link'))).toBe('accepted');
    expect(await refusalOf(join(dir, 'link/a'), join(dir, 'link'))).toBe('accepted');
    expect(await refusalOf(join(dir, 'link/none/yet'), join(dir, 'link/none'))).toBe('accepted');
  });

  it('refuses a path that gets under the root only through a link from elsewhere', async () => {
    symlinkSync(join(root, 'a'), join(dir, 'outside/back'));
    expect(await refusalOf(join(dir, 'outside/back'), root)).toBe('path-outside');
  });
});
