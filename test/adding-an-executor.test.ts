import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const PAGE = 'docs/adding-an-executor.md';

interface Block {
  kind: string;
  path: string;
  text: string;
}

/** Returns the code blocks of a page that name a file. */
function blocksOf(page: string): Block[] {
  const fences = readFileSync(page, 'utf8').matchAll(/^```(ts|diff) (\S+)\n(.*?)^```/gms);
  return [...fences].map(([, kind = '', path = '', text = '']) => ({ kind, path, text }));
}

/** Applies the hunks of a diff, separated by "@@". Each must fit in exactly one place. */
function patch(source: string, diff: string): string {
  return diff.split('@@\n').reduce((text, hunk) => {
    const lines = hunk.split('\n').slice(0, -1);
    const take = (skipped: string) => lines.filter(line => !line.startsWith(skipped)).map(line => `${line.slice(1)}\n`);
    const parts = `\n${text}`.split(`\n${take('+').join('')}`);
    if (parts.length !== 2) throw new Error(`This hunk fits in ${parts.length - 1} places:\n${hunk}`);
    return parts.join(`\n${take('-').join('')}`).slice(1);
  }, source);
}

const blocks = blocksOf(PAGE);
let copy: string;

/** Runs a program of node_modules in the copy. */
function run(program: string, ...args: string[]) {
  const path = join(resolve('node_modules/.bin'), program);
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' };
  const { status, stdout, stderr } = spawnSync(path, args, { cwd: copy, encoding: 'utf8', env });
  return { status, output: stdout + stderr };
}

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), 'chatops-page-'));
  for (const room of ['intents', 'protocol', 'agent', 'test/stand'])
    cpSync(room, join(copy, room), { recursive: true });
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'));
  // The copy is not a repository of git.
  const biome = { ...JSON.parse(readFileSync('biome.json', 'utf8')), vcs: undefined };
  writeFileSync(join(copy, 'biome.json'), JSON.stringify(biome));
  const { compilerOptions } = JSON.parse(readFileSync('tsconfig.json', 'utf8'));
  const include = ['intents', 'agent/executors', 'agent/plan', 'agent/steps/backup/restore-readme.ts'];
  writeFileSync(
    join(copy, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, include, exclude: ['**/write-schema.ts'] }),
  );
  writeFileSync(join(copy, 'package.json'), '{ "type": "module" }');
  for (const { kind, path, text } of blocks) {
    const file = join(copy, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, kind === 'diff' ? patch(readFileSync(file, 'utf8'), text) : text);
  }
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

describe('a kind that is added as the page says', () => {
  it('is one folder and two lines of the agent', () => {
    const outside = blocks.filter(
      ({ path }) => path.startsWith('agent/') && !path.startsWith('agent/executors/toydb/'),
    );
    const added = outside.flatMap(({ text }) => text.split('\n').filter(line => line.startsWith('+')));
    expect(outside.map(({ path }) => path)).toEqual(['agent/executors/index.ts']);
    expect(added).toHaveLength(2);
  });

  it('passes the type check', () => {
    expect(run('tsc', '--noEmit')).toEqual({ status: 0, output: '' });
  });

  it('passes the contract exam and its own test', () => {
    const { status, output } = run('vitest', 'run', '--root', copy, '--maxWorkers', '1', 'agent/executors/toydb');
    expect(status, output).toBe(0);
    // Three cases of the exam, and the two tests of the page.
    expect(Number(/Tests +(\d+) passed/.exec(output)?.[1])).toBeGreaterThan(3 * 5);
  });

  it('is formatted like the rest', () => {
    const { status, output } = run('biome', 'check', '--error-on-warnings', 'agent/executors/toydb');
    expect(status, output).toBe(0);
  });
});

describe('a page that does not fit the code', () => {
  it.each([
    ['a line that is missing', ' x\n+y\n', 0],
    ['a line that occurs twice', ' a\n+b\n', 2],
  ])('is rejected for %s', (_, diff, places) => {
    expect(() => patch('a\nb\na\n', diff)).toThrow(`This hunk fits in ${places} places`);
  });
});
