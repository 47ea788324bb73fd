import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';

const SECTIONS = ['Context', 'Decision', 'Considered', 'Consequences'];

/** Returns what is wrong with a decision record: its head, its sections, or their order. */
function recordProblems(file: string, text: string): string[] {
  const found: string[] = [];
  const number = Number(/^(\d{4})-[a-z0-9-]+\.md$/.exec(file)?.[1]);
  const [title = '', , status = '', date = ''] = text.split('\n');
  if (!title.startsWith(`# ${number}. `)) found.push(`The title is not "# ${number}. …".`);
  if (!/^- Status: (proposed|accepted|superseded by \[decision \d+\]\(\d{4}-[a-z0-9-]+\.md\))$/.test(status))
    found.push('Line 3 is not "- Status: …".');
  if (!/^- Date: \d{4}-\d{2}-\d{2}$/.test(date)) found.push('Line 4 is not "- Date: YYYY-MM-DD".');
  const sections = [...text.matchAll(/^## (.+)\n\n(?=[^#\s])/gm)].map(([, name]) => name);
  if (sections.join() !== SECTIONS.join()) found.push(`The sections are not ${SECTIONS.join(', ')}, each with text.`);
  return found;
}

/** Returns the records that the index does not list in order with their titles. */
function indexProblems(index: string, records: { file: string; text: string }[]): string[] {
  const listed = [...index.matchAll(/^- \[(.+)\]\((\d{4}-.+\.md)\)$/gm)].map(([, title, file]) => `${file}: ${title}`);
  const wanted = records.map(({ file, text }) => `${file}: ${text.split('\n', 1)[0]?.slice(2)}`);
  return [...wanted.filter(one => !listed.includes(one)), ...listed.filter((one, place) => wanted[place] !== one)];
}

const records = globSync('docs/decisions/[0-9]*.md')
  .sort()
  .map(path => ({ file: basename(path), text: readFileSync(path, 'utf8') }));

describe('a decision record', () => {
  it.each(records)('has number, status, date and four sections: $file', ({ file, text }) => {
    expect(recordProblems(file, text)).toEqual([]);
  });

  it('is refused when its head or a section is missing', () => {
    expect(recordProblems('0007-x.md', '# 0007: x\n\n**Context.** None.\n')).toEqual([
      'The title is not "# 7. …".',
      'Line 3 is not "- Status: …".',
      'Line 4 is not "- Date: YYYY-MM-DD".',
      'The sections are not Context, Decision, Considered, Consequences, each with text.',
    ]);
    const head = '# 7. x\n\n- Status: accepted\n- Date: 2026-11-21\n\n';
    const body = SECTIONS.map(name => `## ${name}\n\nText.\n`).join('\n');
    expect(recordProblems('0007-x.md', head + body)).toEqual([]);
    expect(recordProblems('0007-x.md', head + body.replace('Considered\n\nText.', 'Considered\n'))).toHaveLength(1);
  });

  it('is superseded only by one that exists', () => {
    const successors = records.flatMap(({ text }) => [...text.matchAll(/^- Status: superseded by .*\((.+)\)$/gm)]);
    for (const [, file = ''] of successors) expect(existsSync(`docs/decisions/${file}`), file).toBe(true);
  });
});

describe('the index of decisions', () => {
  it('lists every record in order, and the numbers have no gap', () => {
    expect(records.map(({ file }) => Number(file.slice(0, 4)))).toEqual(records.map((_, place) => place + 1));
    expect(indexProblems(readFileSync('docs/decisions/README.md', 'utf8'), records)).toEqual([]);
  });

  it('is refused when a record is missing, renamed or gone', () => {
    const two = ['0001-a.md', '0002-b.md'].map((file, place) => ({ file, text: `# ${place + 1}. Title\n` }));
    const [first, second] = ['- [1. Title](0001-a.md)', '- [2. Title](0002-b.md)'];
    expect(indexProblems(`${first}\n${second}\n`, two)).toEqual([]);
    expect(indexProblems(`${first}\n`, two)).toEqual(['0002-b.md: 2. Title']);
    expect(indexProblems(`${first}\n- [2. Other](0002-b.md)\n`, two)).toEqual([
      '0002-b.md: 2. Title',
      '0002-b.md: 2. Other',
    ]);
    expect(indexProblems(`${first}\n${second}\n- [3. Gone](0003-c.md)\n`, two)).toEqual(['0003-c.md: 3. Gone']);
  });
});
