import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ROOMS } from './rooms.ts';
import {
  brokenWalls,
  circles,
  importsOf,
  misplaced,
  missingPaths,
  orphanedTests,
  ownersOfNames,
  readSources,
  shells,
} from './walls.ts';

/** Tests that check the repository as a whole, not several rooms at run time. */
const REPOSITORY_CHECKS = [
  'architecture',
  'adding-an-executor',
  'decisions',
  'docs',
  'docs-index',
  'project-files',
  'supply-chain',
  'unused-code',
  'words',
];

const written = readSources('{intents,protocol,client,action,agent,test,bench,scripts}/**/*.ts');
const paths = written.map(({ path }) => path);
const product = written.filter(
  ({ path }) =>
    /^(intents|protocol|client|action|agent)\//.test(path) &&
    !path.endsWith('.test.ts') &&
    !path.endsWith('.d.ts') &&
    path !== 'agent/executors/exam.ts',
);
const pages = readSources('{README.md,CONTRIBUTING.md,SECURITY.md,docs/**/*.md}');
/** The toy kind of docs/adding-an-executor.md, which its test adds to a copy of the repository. */
const TOY = /\/toydb\//;
const shipped = readSources('{agent,intents,scripts,test,bench}/**/*.{sh,yaml,json,service}').map(({ path }) => path);

describe('imports', () => {
  it('stay within the walls and run downwards between the rooms', () => {
    expect(product.length).toBeGreaterThan(200);
    expect(brokenWalls(product)).toEqual([]);
  });

  it.each([
    ['intents/load.ts', "import { readFile } from 'node:fs';"],
    ['protocol/wire.ts', "import { RunStore } from '../agent/store/runs.ts';"],
    ['action/main.ts', "import { RunStore } from '../agent/store/runs.ts';"],
    ['client/connect.ts', "import { refusals } from '../agent/refusals.ts';"],
    ['agent/runs/registry.ts', "import { deliver } from '../../client/deliver.ts';"],
    ['agent/cli/run.ts', "import { startGroup } from '@actions/core';"],
    ['agent/executors/compose/rollout.ts', "import { spawn } from 'node:child_process';"],
    ['agent/executors/compose/rollout.ts', "import { RunStore } from '../../store/runs.ts';"],
    ['agent/plan/plan.ts', "import { readFile } from 'node:fs/promises';"],
    ['agent/runs/registry.ts', "import { DatabaseSync } from 'node:sqlite';"],
    ['agent/outbound/docker.ts', "import type { ContainerInfo } from 'dockerode';"],
    ['agent/runs/registry.ts', "const { spawn } = await import('node:child_process');"],
    ['agent/plan/plan.ts', "import { tailLog } from '../system/log-tail.ts';"],
    ['agent/store/runs.ts', "import type { Run } from '../runs/run.ts';"],
    ['agent/server/session.ts', "import { startAgent } from '../main.ts';"],
  ])('are refused: %s with %s', (path, text) => {
    expect(brokenWalls([{ path, text }])).toContainEqual(expect.stringContaining(`${path} imports`));
  });

  it('have no circles', () => {
    expect(circles(product)).toEqual([]);
    expect(
      circles([
        { path: 'agent/a.ts', text: "import { b } from './b.ts';" },
        { path: 'agent/b.ts', text: "import { a } from './a.ts';" },
      ]),
    ).toHaveLength(1);
  });
});

describe('the rooms of the agent', () => {
  it('hold every file, and none too many', () => {
    expect(misplaced(product.map(({ path }) => path))).toEqual([]);
  });

  it('refuse a new file in the root of agent/ and a room with too many files', () => {
    expect(misplaced(['agent/helpers.ts', 'agent/utils/text.ts'])).toEqual([
      expect.stringContaining('agent/helpers.ts is in no room'),
      expect.stringContaining('agent/utils/text.ts is in no room'),
    ]);
    expect(misplaced(Array.from({ length: 26 }, (_, index) => `agent/runs/file-${index}.ts`))).toEqual([
      expect.stringContaining('agent/runs has 26 files'),
    ]);
  });

  it('are all used', () => {
    for (const [room] of ROOMS)
      expect(paths.filter(path => path === `agent/${room}` || path.startsWith(`agent/${room}/`))).not.toEqual([]);
  });

  it('are the table of docs/architecture.md', () => {
    const rows = [...readFileSync('docs/architecture.md', 'utf8').matchAll(/^\| `agent\/([\w.-]+)` +\| (.*?) +\|$/gm)];
    expect(rows.map(([, room, sentence]) => [room, sentence])).toEqual(ROOMS);
  });
});

describe('names', () => {
  it('have one owner each', () => {
    expect(ownersOfNames(product)).toEqual([]);
    expect(
      ownersOfNames([
        { path: 'agent/a.ts', text: 'export interface Target {}' },
        { path: 'agent/b.ts', text: 'export type Target = string;' },
      ]),
    ).toEqual([expect.stringContaining('Target is exported by agent/a.ts and agent/b.ts')]);
  });

  it('of tests are the names of their sources', () => {
    expect(orphanedTests(paths, REPOSITORY_CHECKS)).toEqual([]);
    expect(orphanedTests(['agent/runs/guard.test.ts', 'test/pruning.test.ts'], REPOSITORY_CHECKS)).toEqual([
      expect.stringContaining('agent/runs/guard.test.ts tests no file of its name'),
      expect.stringContaining('test/pruning.test.ts is in test/: name it .e2e.test.ts'),
    ]);
  });

  it('of files in the documentation exist', () => {
    expect(missingPaths(pages, [...paths, ...shipped]).filter(line => !TOY.test(line))).toEqual([]);
    expect(missingPaths([{ path: 'docs/x.md', text: 'see agent/ground/hands.ts' }], paths)).toEqual([
      'docs/x.md names agent/ground/hands.ts, which does not exist',
    ]);
  });
});

describe('every source', () => {
  it('starts no program through a shell', () => {
    expect(shells(product.filter(({ path }) => /^(action|agent)\//.test(path)))).toEqual([]);
    expect(shells([{ path: 'agent/x.ts', text: 'spawn(line, { shell: true })' }])).toEqual(['agent/x.ts']);
  });

  it('has at most 400 lines and nothing unfinished', () => {
    expect(written.filter(({ text }) => text.split('\n').length > 400).map(({ path }) => path)).toEqual([]);
    const mark = new RegExp(`\\b(${['TO', 'FIX'].map((half, index) => half + ['DO', 'ME'][index]).join('|')})\\b`);
    expect(written.filter(({ text }) => mark.test(text)).map(({ path }) => path)).toEqual([]);
  });

  it('is read with its lazy imports', () => {
    expect(importsOf({ path: 'agent/cli.ts', text: "await import(/* x */ './cli/run.ts')" })).toEqual([
      'agent/cli/run.ts',
    ]);
  });
});
