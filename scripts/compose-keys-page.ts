import { writeFileSync } from 'node:fs';
import { type KeyRow, listKeys } from '../agent/compose/key-table.ts';
import { GRANT_RISKS, LIST_RISKS } from '../agent/plan/compose-config.ts';

/** Writes docs/compose-keys.md from the allow-list of the code. `npm run compose-keys` runs it. */

const PAGE = 'docs/compose-keys.md';

const INTRODUCTION = `# Keys of compose files

<!-- Written by "npm run compose-keys" from agent/compose. Change that. -->

The agent renders a stack's compose files once, with all profiles, and checks the result against this list before it starts
anything. A key that is not in the list is refused by its name, also one that a newer compose knows. Keys that start with
\`x-\` are allowed at the top level. "nothing" means: any usual value is allowed. A grant or a list is an exception for a
stack in agent.yaml, under \`compose.grants\`. \`chatops policy suggest STACK\` prints those that a stack needs.`;

/** Returns the text of the page. */
export function composeKeysPage(rows: KeyRow[] = listKeys()): string {
  const sections = Map.groupBy(
    rows,
    ({ key }) => /^(services|networks|volumes|configs|secrets)\.NAME\./.exec(key)?.[1],
  );
  return `${[
    INTRODUCTION,
    '## Grants',
    'The values of `allow`, each with its risk:',
    table(
      ['grant', 'risk'],
      Object.entries(GRANT_RISKS).map(([grant, risk]) => [`\`${grant}\``, risk]),
    ),
    '## Lists',
    'Lists open single values. They are the smaller exception:',
    table(
      ['list', 'risk of a value'],
      Object.entries(LIST_RISKS).map(([list, risk]) => [`\`${list}\``, risk]),
    ),
    ...[...sections].flatMap(([section, found]) => [
      section === undefined ? '## Top level' : `## ${section[0]?.toUpperCase()}${section.slice(1)}`,
      table(
        ['key', 'needs'],
        found.map(({ key, needs }) => [`\`${key.replace(`${section}.NAME.`, '')}\``, needs]),
      ),
    ]),
  ].join('\n\n')}\n`;
}

function table(head: string[], lines: string[][]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map(line => line[column]?.length ?? 0)));
  const row = (cells: string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [row(head), `| ${widths.map(width => '-'.repeat(width)).join(' | ')} |`, ...lines.map(row)].join('\n');
}

if (import.meta.filename === process.argv[1]) writeFileSync(PAGE, composeKeysPage());
