import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readJson, writeDurably } from './durable-files.ts';

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-durable-'));
  file = join(dir, 'state.json');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('writeDurably', () => {
  it('replaces the file and leaves nothing else behind', async () => {
    await writeDurably(file, '{"n":1}');
    await writeDurably(file, '{"n":2}');
    expect(readJson(file)).toEqual({ n: 2 });
    expect(readdirSync(dir)).toEqual(['state.json']);
  });

  it('gives the file exactly the mode that is asked for, whatever the umask and the old mode are', async () => {
    writeFileSync(file, 'old');
    chmodSync(file, 0o644);
    await writeDurably(file, 'secret');
    expect(statSync(file).mode & 0o7777).toBe(0o600);
    await writeDurably(file, 'public', { mode: 0o666 });
    expect(statSync(file).mode & 0o7777).toBe(0o666);
  });

  it('replaces a link or a pipe that has the temporary name, and writes nothing through it', async () => {
    const victim = join(dir, 'victim');
    writeFileSync(victim, 'untouched');
    symlinkSync(victim, `${file}.partial`);
    await writeDurably(file, 'new');
    expect(readFileSync(victim, 'utf8')).toBe('untouched');
    execFileSync('mkfifo', [`${file}.partial`]);
    await writeDurably(file, 'newer');
    expect(readFileSync(file, 'utf8')).toBe('newer');
  });

  it('removes the temporary file if the last step fails', async () => {
    mkdirSync(join(file, 'in the way'), { recursive: true });
    await expect(writeDurably(file, 'new', { partial: join(dir, 'other') })).rejects.toThrow();
    expect(readdirSync(dir)).toEqual(['state.json']);
  });
});

describe('readJson', () => {
  it('returns undefined for a file that does not exist, and throws for one that is not JSON', async () => {
    expect(readJson(file)).toBeUndefined();
    writeFileSync(file, '{');
    expect(() => readJson(file)).toThrow(SyntaxError);
  });
});
