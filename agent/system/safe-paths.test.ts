import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Refused } from '../../protocol/refusal.ts';
import { Failure } from '../plan/failure.ts';
import { descriptorPath, lookUp, openFile, openFolder, openRegular, readRegular, requireUnder } from './safe-paths.ts';

let dir: string;
let root: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-paths-')));
  root = join(dir, 'root');
  for (const folder of ['root/a', 'root-twin', 'outside/a']) mkdirSync(join(dir, folder), { recursive: true });
  writeFileSync(join(dir, 'outside/secret'), 'secret');
  symlinkSync(join(dir, 'outside'), join(root, 'out'));
  symlinkSync(join(root, 'a'), join(root, 'in'));
  symlinkSync(root, join(dir, 'link'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function codeOf(work: () => Promise<unknown>): Promise<string> {
  try {
    return (await work()) === undefined ? 'missing' : 'opened';
  } catch (error) {
    if (error instanceof Failure || error instanceof Refused) return error.code;
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** Opens a folder, and returns its path as the kernel knows it. */
async function placeOf(path: string, below = root, make?: number): Promise<string | undefined> {
  await using folder = await openFolder(path, below, make === undefined ? {} : { make });
  return folder && readlinkSync(descriptorPath(folder.handle));
}

describe('openFolder', () => {
  it('opens and creates what is below the root, also by the root’s real name', async () => {
    expect(await placeOf(root)).toBe(root);
    expect(await placeOf(join(root, 'a'))).toBe(join(root, 'a'));
    expect(await placeOf(join(root, 'none'))).toBeUndefined();
    expect(await placeOf(join(root, 'new/er'), root, 0o750)).toBe(join(root, 'new/er'));
    expect(lstatSync(join(root, 'new')).mode & 0o777).toBe(0o750);
    expect(await placeOf(join(dir, 'link/a'), join(dir, 'link'))).toBe(join(root, 'a'));
    expect(await placeOf(join(root, 'a'), join(dir, 'link'))).toBe(join(root, 'a'));
  });

  // Names of a small tree, each a folder, a file, or a link to one of these places.
  const name = fc.constantFrom('a', 'b', 'c');
  const entry = fc.record({
    path: fc.array(name, { minLength: 1, maxLength: 3 }),
    to: fc.constantFrom('folder', 'file', '/', '..', '.', 'a', '../b', '../../..', 'OUTSIDE', 'ROOT'),
  });

  it('opens exactly the folders that no link leads to, whatever the tree', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), fc.array(name, { maxLength: 4 }), async (tree, wanted) => {
        const top = join(dir, 'tree');
        rmSync(top, { recursive: true, force: true });
        mkdirSync(top);
        for (const { path, to } of tree) {
          const at = join(top, ...path);
          try {
            if (to === 'folder') mkdirSync(at);
            else if (to === 'file') writeFileSync(at, '', { flag: 'wx' });
            else symlinkSync(to.replace('OUTSIDE', join(dir, 'outside')).replace('ROOT', top), at);
          } catch {
            // Its folder is missing, or the name is taken.
          }
        }
        const outside = readdirSync(join(dir, 'outside')).sort();
        const parts = wanted.map((_, index) => join(top, ...wanted.slice(0, index + 1)));
        // Only the first that is not a folder counts: what is behind a link does not.
        const firstWrong = parts.find(part => !lstatSync(part, { throwIfNoEntry: false })?.isDirectory());
        const path = join(top, ...wanted);
        const isMissing = firstWrong !== undefined && !lstatSync(firstWrong, { throwIfNoEntry: false });
        const expected = firstWrong === undefined ? path : isMissing ? undefined : 'path-outside';
        expect(await placeOf(path, top).catch((error: Failure) => error.code)).toBe(expected);
        // Creating never leaves the tree either.
        const made = await placeOf(path, top, 0o755).catch((error: Failure) => error.code);
        expect(made).toBe(expected === 'path-outside' ? 'path-outside' : path);
        expect(readdirSync(join(dir, 'outside')).sort()).toEqual(outside);
      }),
      { numRuns: 150 },
    );
  });

  it('opens nothing outside while another process exchanges a folder for a link', async () => {
    writeFileSync(join(root, 'a/secret'), 'harmless');
    let swaps = 0;
    let isOver = false;
    const attack = (async () => {
      while (!isOver) {
        renameSync(join(root, 'a'), join(root, 'b'));
        symlinkSync(join(dir, 'outside'), join(root, 'a'));
        await new Promise(resolve => setImmediate(resolve));
        rmSync(join(root, 'a'));
        renameSync(join(root, 'b'), join(root, 'a'));
        swaps++;
        await new Promise(resolve => setImmediate(resolve));
      }
    })();
    const seen = new Set<string>();
    for (let round = 0; round < 300; round++) {
      const file = await openFile(join(root, 'a/secret'), root).catch((error: Failure) => error.code);
      if (typeof file !== 'object') {
        seen.add(file ?? 'missing');
        continue;
      }
      expect(String(await file.readFile())).toBe('harmless');
      seen.add('opened');
      await file.close();
    }
    isOver = true;
    await attack;
    expect(swaps).toBeGreaterThan(10);
    expect([...seen].sort()).toEqual(expect.arrayContaining(['opened', 'path-outside']));
  });
});

describe('openRegular', () => {
  it('opens a file, and neither a link, a folder, a pipe, a socket nor a device, without waiting', async () => {
    execFileSync('mkfifo', [join(root, 'pipe')]);
    const server = createServer().listen(join(root, 'socket'));
    await new Promise(resolve => server.once('listening', resolve));
    symlinkSync(join(dir, 'outside/secret'), join(root, 'secret'));
    const codes = await Promise.all(
      ['pipe', 'socket', 'a', 'secret', 'none', '../../../../dev/zero'].map(name =>
        codeOf(() => openRegular(join(root, name))),
      ),
    );
    server.close();
    expect(codes).toEqual(['not-a-file', 'not-a-file', 'not-a-file', 'path-outside', 'ENOENT', 'not-a-file']);
    expect(await codeOf(() => openFile(join(root, 'out/secret'), root))).toBe('path-outside');
    expect(await codeOf(() => openFile(join(root, 'none/secret'), root))).toBe('missing');
  });

  it('reads no more than the limit, also of a file that has no size', async () => {
    expect(String(await readRegular(join(dir, 'outside/secret'), 6))).toBe('secret');
    expect(await codeOf(() => readRegular(join(dir, 'outside/secret'), 5))).toBe('file-too-large');
    // Files of /proc say that they are empty.
    expect((await readRegular('/proc/self/environ', 1 << 20)).length).toBeLessThanOrEqual(1);
    expect(readFileSync('/proc/self/environ').length).toBeGreaterThan(1);
  });
});

describe('requireUnder', () => {
  const refusalOf = (path: string, under: string) => codeOf(() => requireUnder(path, under).then(() => 'accepted'));

  it.each(['', '/', '/a', '/a/new/file', '/none'])('accepts root%s', async path => {
    expect(await refusalOf(root + path, root)).toBe('opened');
  });

  it.each(['/out', '/out/new/file', '/in', '/in/new', '/a/../out', '-twin', '-twin/a', '/..', '/a/../../outside'])(
    'refuses root%s',
    async path => {
      expect(await refusalOf(root + path, root)).toBe('path-outside');
    },
  );

  it('accepts a path by the real name of a root that is a link, and by the name of the link', async () => {
    expect(await refusalOf(join(root, 'a'), join(dir, 'link'))).toBe('opened');
    expect(await refusalOf(join(dir, 'link/a'), join(dir, 'link'))).toBe('opened');
    expect(await refusalOf(join(dir, 'link/none/yet'), join(dir, 'link/none'))).toBe('opened');
  });

  it('refuses a path that gets under the root only through a link from elsewhere', async () => {
    symlinkSync(join(root, 'a'), join(dir, 'outside/back'));
    expect(await refusalOf(join(dir, 'outside/back'), root)).toBe('path-outside');
  });
});

describe('lookUp', () => {
  it('names every folder that a path goes through, those of the root’s links too', async () => {
    const { path, through, kind } = await lookUp(join(dir, 'link/a/new'), join(dir, 'link'));
    expect({ path, kind }).toEqual({ path: join(root, 'a/new'), kind: undefined });
    expect(through.map(one => one.path)).toEqual(expect.arrayContaining(['/', dir, root, join(root, 'a')]));
    symlinkSync('one', join(dir, 'two'));
    symlinkSync('two', join(dir, 'one'));
    expect(await codeOf(() => lookUp(join(dir, 'one'), join(dir, 'one')))).toBe('path-outside');
  });
});
