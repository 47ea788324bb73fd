import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SHOWN_COMMANDS } from './commands.ts';
import { insertCommandTable } from './docs-table.ts';

describe('the table of commands in docs/agent.md', () => {
  it('is the one that "npm run commands" writes', () => {
    const page = readFileSync('docs/agent.md', 'utf8');
    expect(page).toBe(insertCommandTable(page));
    expect(page.match(/^\| `chatops .*\|$/gm)).toHaveLength(SHOWN_COMMANDS.length);
  });

  it('is not written into a page without its marks', () => {
    expect(() => insertCommandTable('# A page\n')).toThrow('The page has no "<!-- commands:');
  });
});
