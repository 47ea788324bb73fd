import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Prose, proseOfLines, proseOfPage, proseOfSource } from './prose.ts';
import { badWords } from './words.ts';

/** The word list itself, and tests that quote it. */
const EXEMPT = ['test/words.ts', 'test/words.test.ts', 'CONTRIBUTING.md'];

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' })
  .split('\n')
  .filter(file => file !== '' && !file.startsWith('dist/') && !EXEMPT.includes(file));

function proseOf(file: string): Prose[] {
  const text = readFileSync(file, 'utf8');
  if (file.endsWith('.ts')) return proseOfSource(text);
  if (file.endsWith('.md')) return proseOfPage(text);
  return /\.(?:ya?ml|sh|service|conf)$|(?:^|\/)(?:Makefile|run)$/.test(file) ? proseOfLines(text) : [];
}

describe('the language of the repository', () => {
  it('is plain technical English', () => {
    expect(files.length).toBeGreaterThan(300);
    expect(files.flatMap(file => badWords(file, proseOf(file)))).toEqual([]);
  });

  it.each([
    ['a comment', '// The run goes on.', 'x.ts:1: "goes on": write continues'],
    ['a later line of a comment', '/**\n * Reads.\n * It is kept beside it.\n */', 'x.ts:3: "beside": write next to'],
    ['a message', "throw new Error('Who it is was not told.');", 'x.ts:1: "told": write logged, reported or sent'],
    [
      'a message with values',
      'const text = `$'.concat('{a} is no name of $', '{b}`;'),
      'x.ts:1: "is no": write is not a …',
    ],
    ['a doc comment that starts with What', '/** What it does. */', 'x.ts:1: "What": write start with a verb'],
    ['a comment in code that starts with What', '// What is left runs.', 'x.ts:1: "What": write start with a verb'],
    ['where for if', '/** Undefined where there is none. */', 'x.ts:1: "Undefined where": write if or when'],
  ])('is checked in %s, with file, line and replacement', (_, source, finding) => {
    expect(badWords('x.ts', proseOfSource(source))).toContainEqual(expect.stringContaining(finding));
  });

  it('is checked in pages, but not in their code', () => {
    const page = 'The run goes on.\n\n```ts\nconst told = 1;\n```\n\nThe key `doors` is told.';
    expect(badWords('x.md', proseOfPage(page))).toEqual([
      'x.md:1: "goes on": write continues',
      'x.md:7: "told": write logged, reported or sent',
    ]);
  });

  it('is checked in descriptions, comments and messages of YAML and scripts', () => {
    const text = 'description: Who is told.\nkey: told # as told\necho "it goes on"\n';
    expect(badWords('x.yml', proseOfLines(text))).toEqual([
      'x.yml:1: "told": write logged, reported or sent',
      'x.yml:2: "told": write logged, reported or sent',
      'x.yml:3: "goes on": write continues',
    ]);
  });

  it('is not checked in names, regular expressions and words by themselves', () => {
    const source = "const told = /goes on|told/.test('told') ? 1 / 2 : keeper;";
    expect(badWords('x.ts', proseOfSource(source))).toEqual([]);
  });
});
