import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

interface Source {
  path: string;
  text: string;
}

/** What files below a folder may import, and why. A specifier that begins with a folder's name means this repository. */
const WALLS: { in: RegExp; may: RegExp; because: string }[] = [
  {
    in: /^intents\/(?!write-schema)/,
    may: /^(intents\/|zod$|yaml$)/,
    because: 'the language is spoken on the runner, on the host and in editors: it knows nobody',
  },
  {
    in: /^protocol\//,
    may: /^(intents\/|protocol\/|zod$|node:crypto$)/,
    because: 'the protocol describes, signs and checks; it does nothing',
  },
  {
    in: /^action\//,
    may: /^(intents\/|protocol\/|client\/|action\/|node:|yaml$|@actions\/)/,
    because: 'action and agent share only what crosses the wire',
  },
  {
    in: /^client\//,
    may: /^(intents\/|protocol\/|client\/|node:|ws$)/,
    because: 'who sends commands knows neither the runner nor the host',
  },
  {
    in: /^agent\/cli\//,
    may: /^(intents\/|protocol\/|client\/|agent\/|node:|yaml$|zod$|croner$|commander$)/,
    because: 'the command line is a sender too, from a laptop; the agent itself is none',
  },
  {
    in: /^agent\/executors\/(?!index|exam)[^/]+\//,
    may: /^agent\/(plan\/|executors\/(executor|verify-steps)\.ts$|executors\/[^/]+\/)/,
    because: 'an executor decides and does nothing: it has no hands',
  },
  {
    in: /^agent\//,
    may: /^(intents\/|protocol\/|agent\/|node:|yaml$|ws$|zod$|jose$|croner$|cockatiel$|nodemailer$|prom-client$|rate-limiter-flexible)/,
    because: 'action and agent share only what crosses the wire',
  },
];

const ONLY: { what: RegExp; in: RegExp; because: string }[] = [
  { what: /^node:sqlite$/, in: /^agent\/store\/database\.ts$/, because: 'one place opens the database' },
  {
    what: /^node:child_process$/,
    in: /^(agent\/system\/(process|host-reader)\.ts|action\/tree\.ts|client\/diagnose\.ts)$/,
    because: 'process.ts starts what changes something, host-reader.ts asks; git and tailscale are asked',
  },
];

function importsOf({ path, text }: Source): string[] {
  const written = [
    ...text.matchAll(/(?:^|\s)(?:import|export)\s[^;'"]*?from\s+'([^']+)'|import\((?:\/\*.*?\*\/\s*)?'([^']+)'\)/g),
  ];
  return written.map(([, fixed, lazy]) => {
    const specifier = fixed ?? lazy ?? '';
    return specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : specifier;
  });
}

function brokenWalls(sources: Source[]): string[] {
  const product = sources.filter(({ path }) => /^(intents|protocol|client|action|agent)\//.test(path));
  return product.flatMap(source => {
    const wall = WALLS.find(one => one.in.test(source.path));
    const through = importsOf(source).filter(specifier => wall && !wall.may.test(specifier));
    const reserved = ONLY.filter(only => !only.in.test(source.path)).flatMap(only =>
      importsOf(source)
        .filter(specifier => only.what.test(specifier))
        .map(specifier => `${source.path} imports ${specifier}, but ${only.because}`),
    );
    return [...through.map(specifier => `${source.path} imports ${specifier}, but ${wall?.because}`), ...reserved];
  });
}

function circles(sources: Source[]): string[] {
  const graph = new Map(sources.map(source => [source.path, importsOf(source)]));
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: string[]): void => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
    if (trail.includes(path) || done.has(path)) return;
    for (const next of graph.get(path) ?? []) walk(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) walk(path, []);
  return found;
}

function shells(sources: Source[]): string[] {
  return sources.filter(({ text }) => /shell:\s*true|execSync\(|(?<![.#\w])exec\(/.test(text)).map(({ path }) => path);
}

const all = (pattern: string): Source[] =>
  globSync(pattern, { exclude: path => path === 'node_modules' }).map(path => ({
    path,
    text: readFileSync(path, 'utf8'),
  }));
const written = all('{intents,protocol,client,action,agent,test,bench,scripts}/**/*.ts');
const product = written.filter(
  ({ path }) => !path.endsWith('.test.ts') && !path.endsWith('.d.ts') && path !== 'agent/executors/exam.ts',
);

describe('the walls', () => {
  it('hold', () => {
    expect(product.length).toBeGreaterThan(40);
    expect(brokenWalls(product)).toEqual([]);
  });

  it.each([
    ['intents/load.ts', "import { readFile } from 'node:fs';"],
    ['protocol/wire.ts', "import { Store } from '../agent/store/runs.ts';"],
    ['action/main.ts', "import { Store } from '../agent/store/runs.ts';"],
    ['agent/runs/registry.ts', "import { deliver } from '../../client/deliver.ts';"],
    ['agent/executors/compose/rollout.ts', "import { spawn } from 'node:child_process';"],
    ['agent/executors/compose/rollout.ts', "import { Store } from '../../store/runs.ts';"],
    ['agent/runs/registry.ts', "import { DatabaseSync } from 'node:sqlite';"],
    ['agent/runs/registry.ts', "const { spawn } = await import('node:child_process');"],
  ])('would not let %s say %s', (path, text) => {
    expect(brokenWalls([{ path, text }])).not.toEqual([]);
  });
});

describe('the house', () => {
  it('has no circles', () => {
    expect(circles(product.filter(({ path }) => !path.startsWith('test/')))).toEqual([]);
    expect(
      circles([
        { path: 'agent/a.ts', text: "import { b } from './b.ts';" },
        { path: 'agent/b.ts', text: "import { a } from './a.ts';" },
      ]),
    ).toHaveLength(1);
  });

  it('starts nothing through a shell', () => {
    expect(shells(product.filter(({ path }) => /^(action|agent)\//.test(path)))).toEqual([]);
    expect(shells([{ path: 'agent/x.ts', text: 'spawn(line, { shell: true })' }])).toEqual(['agent/x.ts']);
  });

  it('keeps files under 400 lines and nothing unfinished', () => {
    expect(written.filter(({ text }) => text.split('\n').length > 400).map(({ path }) => path)).toEqual([]);
    const mark = new RegExp(`\\b(${['TO', 'FIX'].map((half, index) => half + ['DO', 'ME'][index]).join('|')})\\b`);
    expect(written.filter(({ text }) => mark.test(text)).map(({ path }) => path)).toEqual([]);
  });
});
