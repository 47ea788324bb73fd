import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Returns the pages that an index lacks or lists twice, its dead links, and its lines without a sentence. */
function indexProblems(index: string, pages: string[]): string[] {
  const lines = [...index.matchAll(/^- .*(?:\n {2}\S.*)*/gm)].map(([entry]) => entry.replaceAll(/\s+/g, ' '));
  const entries = lines.map(line => /^- \[[^\]]+\]\(([^)]+)\): [^.]+(?:\.[^ .][^.]*)*\.$/.exec(line)?.[1]);
  const linked = entries.filter(entry => entry !== undefined);
  return [
    ...lines.filter((_, place) => entries[place] === undefined).map(line => `not a link and one sentence: ${line}`),
    ...pages.filter(page => !linked.includes(page)).map(page => `not listed: ${page}`),
    ...linked.filter((entry, place) => linked.indexOf(entry) !== place).map(entry => `listed twice: ${entry}`),
    ...linked.filter(entry => !existsSync(join('docs', entry))).map(entry => `not a file: ${entry}`),
  ];
}

describe('the index of the documentation', () => {
  const pages = globSync('docs/*.md').map(path => path.slice('docs/'.length));

  it('lists every page once, with one sentence', () => {
    const index = readFileSync('docs/README.md', 'utf8');
    expect(
      indexProblems(
        index,
        pages.filter(page => page !== 'README.md'),
      ),
    ).toEqual([]);
  });

  it('is refused when a page is missing, gone, listed twice or has no sentence', () => {
    const index = [
      '- [Agent](agent.md): the reference of agent.yaml.',
      '- [Agent](agent.md): the same again.',
      '- [Gone](gone.md): a page that was deleted.',
      '- [Flow](flow.md)',
    ].join('\n');
    expect(indexProblems(index, ['agent.md', 'flow.md'])).toEqual([
      'not a link and one sentence: - [Flow](flow.md)',
      'not listed: flow.md',
      'listed twice: agent.md',
      'not a file: gone.md',
    ]);
  });
});
