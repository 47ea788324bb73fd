import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { messageProblems } from './commit-subjects.ts';

const WHY = 'A host with a slow disk timed out.';

describe('a commit message', () => {
  it.each([
    ['a fix that says why', 'fix(agent): wait for a slow disk', WHY],
    ['documentation without a body', 'docs: name the port', ''],
    ['a breaking change', 'feat(protocol)!: drop version 0', WHY],
    ['a subject of exactly 72 characters', `docs: ${'x'.repeat(66)}`, ''],
  ])('passes: %s', (_, subject, body) => {
    expect(messageProblems({ subject, body })).toEqual([]);
  });

  it.each([
    ['a subject of 100 characters', `docs: ${'x'.repeat(94)}`, '', 'The subject has 100 characters, the limit is 72.'],
    ['no type', 'Wait for a slow disk', WHY, 'The subject has no known type.'],
    ['an unknown type', 'feature: wait for a slow disk', WHY, 'The subject has no known type.'],
    ['a type without a change', 'fix: ', WHY, 'The subject has no known type.'],
    ['two changes in one', 'docs: name the port; remove the old page', '', 'The subject joins two changes with ";".'],
    ['a fix without a body', 'fix: wait for a slow disk', '', 'A fix has no body.'],
    ['a body of trailers only', 'feat: wait', 'Co-authored-by: A <a@example.org>\n', 'A feat has no body.'],
  ])('is refused with a remedy: %s', (_, subject, body, problem) => {
    expect(messageProblems({ subject, body })).toEqual([expect.stringContaining(problem)]);
  });
});

describe('scripts/commit-subjects.ts', () => {
  const dir = mkdtempSync(join(tmpdir(), 'chatops-commits-'));
  const git = (...args: string[]): string =>
    execFileSync(
      'git',
      ['-c', 'user.name=a', '-c', 'user.email=a@example.org', '-c', 'commit.gpgsign=false', ...args],
      {
        cwd: dir,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    ).trim();
  const commit = (...paragraphs: string[]): string => {
    git('commit', '--allow-empty', ...paragraphs.flatMap(text => ['-m', text]));
    return git('rev-parse', '--short', 'HEAD');
  };
  const check = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [resolve('scripts/commit-subjects.ts'), ...args], {
      cwd: dir,
      encoding: 'utf8',
    });
    return { status, lines: (stdout + stderr).trim().split('\n') };
  };
  beforeAll(() => {
    git('init', '--initial-branch=main');
    commit(`everything at once; ${'x'.repeat(100)}`);
    git('tag', 'base');
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('does not look at the history before the base', () => {
    commit('fix: wait for a slow disk', WHY);
    expect(check('base')).toEqual({ status: 0, lines: ['1 commits, 0 to reword'] });
  });

  it('exempts merge commits', () => {
    git('checkout', '-b', 'side', 'base');
    commit('docs: name the port');
    git('checkout', 'main');
    git('merge', '--no-ff', '-m', 'Merge pull request 7; with a subject of its own', 'side');
    expect(check('base')).toEqual({ status: 0, lines: ['2 commits, 0 to reword'] });
  });

  it('names each bad commit, its problems and the remedy', () => {
    git('tag', 'good');
    const long = commit(`docs: ${'x'.repeat(94)}`);
    const silent = commit('fix: wait longer');
    expect(check('good', 'HEAD')).toEqual({
      status: 1,
      lines: [
        `${silent} fix: wait longer`,
        expect.stringContaining('A fix has no body. Say why'),
        `${long} docs: ${'x'.repeat(94)}`,
        expect.stringContaining('The subject has 100 characters, the limit is 72. Shorten it'),
        '2 commits, 2 to reword',
        'Reword them: git rebase --interactive good',
      ],
    });
  });

  it('checks the newest commit of a branch that is new on GitHub', () => {
    expect(check('0'.repeat(40))).toMatchObject({
      status: 1,
      lines: expect.arrayContaining(['1 commits, 1 to reword']),
    });
  });

  it('refuses a base that is missing or unknown', () => {
    expect(check()).toEqual({ status: 2, lines: [expect.stringContaining('Usage: ')] });
    expect(check('f'.repeat(40))).toEqual({ status: 2, lines: [expect.stringContaining('Fetch the whole history')] });
  });
});
