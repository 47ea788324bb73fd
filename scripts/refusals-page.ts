import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { actionRefusals } from '../action/refusals.ts';
import { cliRefusals } from '../agent/cli/refusals.ts';
import { circuitOpenRefusal } from '../agent/outbound/circuit-breaker.ts';
import { refusals } from '../agent/refusals.ts';
import { clientRefusals } from '../client/refusals.ts';
import type { Approval } from '../protocol/command.ts';
import { checkApprovals, checkLabel } from '../protocol/labels.ts';
import { type Refusal, Refused } from '../protocol/refusal.ts';

/**
 * Writes docs/refusals.md: messages and remedies from the tables of the code, and notes from docs/refusals-notes.md.
 * `npm run refusals` runs it.
 */

export type Table = Record<string, (...args: never[]) => Refusal | Refused | undefined>;

const evidence = (labels: object[]) =>
  ({ pull_request: 'NUMBER', url: 'URL', labels, approvals: [] }) as unknown as Approval;
const label = { name: 'LABEL', by: 'USER', permission: 'write', at: 'TIME', after_last_push: true };
const doubt = 'REASON';
/** Refusals that are not in a table of builders. */
const protocolRefusals: Table = {
  labelMissing: () => checkLabel(evidence([]), 'LABEL'),
  labelEarly: () => checkLabel(evidence([{ ...label, after_last_push: false, doubt }]), 'LABEL'),
  labelUnproven: () => checkLabel(evidence([{ ...label, after_last_push: false, unproven: true, doubt }]), 'LABEL'),
  labelByUnauthorized: () => checkLabel(evidence([{ ...label, permission: 'read' }]), 'LABEL'),
  approvalsMissing: () => checkApprovals(evidence([]), 1),
};
const outboundRefusals: Table = {
  circuitOpen: () =>
    circuitOpenRefusal({ name: 'NAME', failures: 5, until: { toISOString: () => 'TIME' } as unknown as Date }),
};

/** The tables by the section of the page in which a code of theirs appears first. */
export const TABLES: readonly (readonly [section: string, table: Table])[] = [
  ['Refused by the action', actionRefusals],
  ['Refused by the action', clientRefusals],
  ['Refused by the agent', refusals],
  ['Refused by the agent', protocolRefusals],
  ['Refused by the agent', outboundRefusals],
  ['Refused by the command line', cliRefusals],
];

const PAGE = 'docs/refusals.md';
const NOTES = 'docs/refusals-notes.md';
const WIDTH = 120;

/** Stands for an argument of a builder: a text, or a list with one text. */
class Placeholder extends String {
  join(): string {
    return String(this);
  }
  override slice(): string {
    return String(this);
  }
}

/** Calls a builder with its parameter names as arguments: `keyId` becomes `KEY_ID`. */
export function sample(build: Table[string]): Refusal {
  const described = (build as { text?: unknown }).text ?? build;
  const [, list, single] = /^(?:\(([^)]*)\)|([\w$]+))\s*=>/.exec(String(described)) ?? [];
  const names = (list ?? single ?? '').split(',').map(name => name.trim());
  const args = names.filter(Boolean).map(name => {
    if (!/^\w+$/.test(name)) throw new Error(`a refusal has a parameter that is not a plain name: ${name}`);
    return new Placeholder(name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase());
  });
  const built = build(...(args as never[]));
  if (!built) throw new Error('a builder made no refusal');
  return built instanceof Refused ? built.refusal : built;
}

/** Sections of the notes in their order: an introduction, and text by code. The first one has no title. */
export interface Section {
  title: string;
  intro: string;
  notes: Map<string, string>;
}

export function readNotes(text: string): Section[] {
  const [, used = ''] = text.split(/^---$/m);
  return used.split(/^## /m).map((part, index) => {
    const [head = '', ...entries] = part.split(/^### /m);
    const [title = '', ...intro] = index === 0 ? ['', head] : head.split('\n');
    const notes = new Map<string, string>();
    for (const entry of entries) {
      const [code = '', ...rest] = entry.split('\n');
      if (notes.has(code)) throw new Error(`${NOTES}: two entries for ${code}`);
      notes.set(code, rest.join('\n').trim());
    }
    return { title, intro: intro.join('\n').trim(), notes };
  });
}

/** Returns the text of the page. */
export function refusalsPage(tables = TABLES, sections = readNotes(readFileSync(NOTES, 'utf8'))): string {
  const variants = new Map<string, { section: string; refusals: Refusal[] }>();
  for (const [section, table] of tables)
    for (const build of Object.values(table)) {
      const refusal = sample(build);
      const known = variants.get(refusal.code);
      if (known) known.refusals.push(refusal);
      else variants.set(refusal.code, { section, refusals: [refusal] });
    }
  const lines = [
    '# Refusals and failures',
    '<!-- Written by "npm run refusals" from the code and docs/refusals-notes.md. Change those. -->',
  ];
  for (const { title, intro, notes } of sections) {
    lines.push(...(title ? [`## ${title}`] : []), ...(intro ? [intro] : []));
    for (const [code, { section, refusals: found }] of variants)
      if (section === title) lines.push(`### ${code}`, ...found.flatMap(describe), ...(noteOn(code, sections) ?? []));
    for (const [code, note] of notes) if (!variants.has(code)) lines.push(`### ${code}`, note);
  }
  return `${lines.join('\n\n')}\n`;
}

function noteOn(code: string, sections: Section[]): string[] | undefined {
  const note = sections.map(({ notes }) => notes.get(code)).find(Boolean);
  return note === undefined ? undefined : [note];
}

function describe({ message, remedy }: Refusal): string[] {
  return [wrap(message.replace(/\s+/g, ' ')), wrap(`**Remedy:** ${remedy}`)];
}

function wrap(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && `${last} ${word}`.length <= WIDTH) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines.join('\n');
}

/** Returns the codes that the code makes, read from its text: also those that no table has. */
export function codesInCode(): Set<string> {
  const text = readSources();
  const patterns = [
    /(?:refus(?:al|ed)|[Ff]ailure|failStep|createRefused)\(\s*(?:[^'"`()\n]{1,60} \? )?'([a-z]+(?:-[a-z]+)*)'/g,
    /\bcode(?::| =) (?:[^'\n;{}]*\? )?'([a-z-]+)'/g,
    /\bcode(?::| =) [^'\n;{}]*\? '[a-z-]+' : '([a-z-]+)'/g,
    /(?:reason: |\? |: |stop\()'((?:agent|look|step)-[a-z]+)'/g,
    /\| '((?:step|output)-[a-z-]+)'/g,
  ];
  const found = patterns.flatMap(pattern => [...text.matchAll(pattern)].map(([, code = '']) => code));
  return new Set(found);
}

/** Returns the entries of the notes whose code occurs nowhere in the code. */
export function staleNotes(sections = readNotes(readFileSync(NOTES, 'utf8'))): string[] {
  const text = readSources();
  return sections.flatMap(({ notes }) =>
    [...notes.keys()].filter(code => !new RegExp(`(?<![\\w-])${code}(?![\\w-])`).test(text)),
  );
}

function readSources(): string {
  return globSync('{action,agent,client,protocol}/**/*.ts')
    .filter(path => !path.endsWith('.test.ts'))
    .map(path => readFileSync(path, 'utf8'))
    .join('\n');
}

if (import.meta.filename === process.argv[1]) writeFileSync(PAGE, refusalsPage());
