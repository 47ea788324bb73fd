import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Failure } from '../plan/failure.ts';
import type { OpenedPath } from '../plan/plan.ts';
import { OpenedPaths } from './opened-paths.ts';

let dir: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-opened-')));
  for (const folder of ['root/data', 'outside']) mkdirSync(join(dir, folder), { recursive: true });
  writeFileSync(join(dir, 'root/data/x'), 'inside');
  writeFileSync(join(dir, 'outside/x'), 'secret');
  symlinkSync(join(dir, 'outside'), join(dir, 'root/link'));
  symlinkSync(join(dir, 'outside/x'), join(dir, 'root/data/secret'));
  execFileSync('mkfifo', [join(dir, 'root/data/pipe')]);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const wanted = (path: string, changes: Partial<OpenedPath> = {}): OpenedPath => ({
  ...{ path: join(dir, path), root: join(dir, 'root'), as: 'folder' },
  ...changes,
});

describe('the paths that are opened for a process', () => {
  it.each<[string, Partial<OpenedPath>, string]>([
    ['root/link', {}, 'path-outside'],
    ['root/link', { code: 'destination-link', make: 0o700 }, 'destination-link'],
    ['root/link/new', { make: 0o700 }, 'path-outside'],
    ['root/link/x', { as: 'file' }, 'path-outside'],
    ['root/data/secret', { as: 'file' }, 'path-outside'],
    ['root/data/secret', { as: 'name' }, 'path-outside'],
    ['root/data', { depth: 1 }, 'path-outside'],
    ['root', { depth: 2 }, 'path-outside'],
    ['outside', {}, 'path-outside'],
    ['root/../outside', {}, 'path-outside'],
    ['root/none', {}, 'path-missing'],
    ['root/data/none', { as: 'file' }, 'path-missing'],
    ['root/data/pipe', { as: 'file' }, 'not-a-file'],
    ['root/data', { as: 'file' }, 'not-a-file'],
  ])('are refused: %s %j', async (path, changes, expected) => {
    const refused = await OpenedPaths.open([wanted('root/data'), wanted(path, changes)]).catch(
      (error: unknown) => error,
    );
    expect(refused).toBeInstanceOf(Failure);
    expect((refused as Failure).code).toBe(expected);
    expect(readdirSync(join(dir, 'outside'))).toEqual(['x']);
  });

  it('replace themselves and their entries in arguments, and nothing else', async () => {
    await using opened = await OpenedPaths.open([wanted('root/data'), wanted('root/data/x', { as: 'file' })]);
    const data = join(dir, 'root/data');
    const [, ...args] = opened.inArguments([
      'p',
      data,
      `${data}/`,
      `${data}/y`,
      `${data}/x`,
      `${data}-twin`,
      `--f=${data}`,
    ]);
    expect(args).toEqual([
      ...['/proc/self/fd/4', '/proc/self/fd/4/', '/proc/self/fd/4/y', '/proc/self/fd/3'],
      ...[`${data}-twin`, `--f=${data}`],
    ]);
    expect(() => opened.inArguments(['p', `${data}/deep/y`])).toThrow('is not an entry');
    expect(() => opened.ownPath(`${data}/..`)).toThrow('is not an entry');
  });
});
