import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StepResult } from '../../plan/progress.ts';
import { compareCopy } from './compare-copy.ts';

let dir: string;
let source: string;
let copy: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-compare-')));
  source = join(dir, 'data/www');
  copy = join(dir, 'nas/www/partial');
  for (const folder of [join(source, 'inner/deep'), join(dir, 'host'), join(dir, 'nas/www')])
    mkdirSync(folder, { recursive: true });
  for (const path of ['a', 'inner/b', 'inner/deep/c']) writeFileSync(join(source, path), `text of ${path}`);
  symlinkSync('a', join(source, 'link'));
  writeFileSync(join(dir, 'host/secret'), 'secret');
  writeFileSync(join(dir, 'host/b'), 'text of host');
});
afterEach(() => rmSync(dir, { recursive: true }));

const rsync = (from: string, to: string) =>
  execFileSync('rsync', ['--archive', '--modify-window=-1', '--', `${from}/`, `${to}/`]);
/** Copies while a folder is exchanged for one of the host, as rsync does if a program exchanges it at the right moment. */
function copyExchanged(): void {
  rsync(source, copy);
  rmSync(join(copy, 'inner'), { recursive: true });
  rsync(join(dir, 'host'), join(copy, 'inner'));
  renameSync(join(source, 'inner'), join(dir, 'moved'));
  symlinkSync(join(dir, 'host'), join(source, 'inner'));
  rmSync(join(source, 'inner'));
  renameSync(join(dir, 'moved'), join(source, 'inner'));
}
async function compare(since = new Date(0), signal = new AbortController().signal) {
  const step = {
    ...{ do: 'compare-copy' as const, name: 'compare', folder: join(dir, 'nas/www'), root: join(dir, 'nas') },
    ...{ copy: 'partial', source, sourceRoot: join(dir, 'data'), since: since.toISOString(), owners: true },
  };
  let log = '';
  const running = compareCopy(step, { signal });
  for (;;) {
    const { done, value } = await running.next();
    if (done) return { ...(value as StepResult), log };
    log += (value as { text: string }).text;
  }
}
const differs = () => {
  try {
    return execFileSync('diff', ['-r', '--no-dereference', source, copy], { encoding: 'utf8' });
  } catch (error) {
    return String((error as { stdout?: string }).stdout);
  }
};

describe('a copy', () => {
  it('has nothing of a folder that was exchanged while it was made', async () => {
    copyExchanged();
    expect(existsSync(join(copy, 'inner/secret'))).toBe(true);
    const { outcome, log } = await compare();
    expect({ outcome, files: readdirSync(copy, { recursive: true }).map(String).sort() }).toEqual({
      outcome: 'succeeded',
      files: ['a', 'inner', 'inner/b', 'link'],
    });
    expect(readFileSync(join(copy, 'inner/b'), 'utf8')).toBe('text of inner/b');
    expect(log).toContain('warning: removed from the copy, not in the source: inner/secret\n');
    expect(log).toContain('copied again, changed meanwhile: inner/b\n');
  });

  it('is found to be exchanged by the time at which the folder above it has changed', async () => {
    await sleep(1_100);
    const since = new Date();
    copyExchanged();
    expect((await compare(since)).log).toContain('inner/secret');
  });

  it('is not compared if no folder has changed since the run began', async () => {
    rsync(source, copy);
    await sleep(1_100);
    expect((await compare(new Date(Date.now() + 60_000))).log).toBe('0 entries compared\n');
    expect((await compare()).log).toBe('4 entries compared\n');
    expect(differs()).toBe('');
  });

  it('gets files, links and kinds of entries that changed meanwhile as they are now, and no earlier copy changes', async () => {
    rsync(source, copy);
    mkdirSync(join(dir, 'nas/www/earlier'));
    linkSync(join(copy, 'a'), join(dir, 'nas/www/earlier/a'));
    writeFileSync(join(source, 'a'), 'a longer text', { mode: 0o640 });
    rmSync(join(source, 'link'));
    symlinkSync('inner', join(source, 'link'));
    rmSync(join(source, 'inner/b'));
    mkdirSync(join(source, 'inner/b'));
    expect((await compare()).outcome).toBe('succeeded');
    expect(readFileSync(join(copy, 'a'), 'utf8')).toBe('a longer text');
    expect(statSync(join(copy, 'a')).mode & 0o777).toBe(statSync(join(source, 'a')).mode & 0o777);
    expect(Math.abs(statSync(join(copy, 'a')).mtimeMs - statSync(join(source, 'a')).mtimeMs)).toBeLessThan(1);
    expect(readFileSync(join(dir, 'nas/www/earlier/a'), 'utf8')).toBe('text of a');
    expect({ link: readlinkSync(join(copy, 'link')), b: existsSync(join(copy, 'inner/b')) }).toEqual({
      ...{ link: 'inner', b: false },
    });
  });

  it('is compared by its content at a destination that keeps times to the second', async () => {
    const image = join(dir, 'coarse.img');
    execFileSync('truncate', ['--size=4M', image]);
    execFileSync('mkfs.ext4', ['-q', '-I', '128', image], { stdio: 'ignore' });
    const nas = join(dir, 'nas/www');
    execFileSync('mount', ['-o', 'loop', image, nas]);
    try {
      rsync(source, copy);
      const { atime, mtime } = statSync(join(copy, 'inner/b'));
      // As long and as old as the real file.
      writeFileSync(join(copy, 'inner/b'), 'text of hostile');
      utimesSync(join(copy, 'inner/b'), atime, mtime);
      expect((await compare()).log).toContain('copied again, changed meanwhile: inner/b\n');
      expect(differs()).toBe('');
    } finally {
      execFileSync('umount', [nas]);
    }
  });

  it('may have names that are not UTF-8', async () => {
    const name = Buffer.from([0x66, 0xff, 0x67]);
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), name]), 'bytes');
    rsync(source, copy);
    await compare();
    expect(readFileSync(Buffer.concat([Buffer.from(`${copy}/`), name]), 'utf8')).toBe('bytes');
    expect(differs()).toBe('');
  });

  it('loses only a link where the share exchanges one of its folders', async () => {
    rsync(source, copy);
    rmSync(join(copy, 'inner'), { recursive: true });
    symlinkSync(join(dir, 'host'), join(copy, 'inner'));
    await compare();
    expect({ host: readdirSync(join(dir, 'host')).sort(), inner: existsSync(join(copy, 'inner')) }).toEqual({
      ...{ host: ['b', 'secret'], inner: false },
    });
  });

  it('is compared until the run is cancelled', async () => {
    rsync(source, copy);
    expect((await compare(new Date(0), AbortSignal.abort())).outcome).toBe('cancelled');
  });
});
