import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { MAX_FILES, ROOMS } from './rooms.ts';

export interface Source {
  path: string;
  text: string;
}

/** The imports that files below a folder may have, and the reason. A specifier that begins with a folder's name means this repository. */
const WALLS: { in: RegExp; may: RegExp; because: string }[] = [
  {
    in: /^intents\/(?!write-schema)/,
    may: /^(intents\/|zod$|yaml$)/,
    because: 'the language is used on the runner, on the host and in editors: it depends on none of them',
  },
  {
    in: /^protocol\//,
    may: /^(intents\/|protocol\/|zod$|node:crypto$)/,
    because: 'the protocol describes, signs and checks; it does nothing',
  },
  {
    in: /^action\//,
    may: /^(intents\/|protocol\/|client\/|action\/|node:|yaml$|@actions\/|@octokit\/)/,
    because: 'action and agent share only data that crosses the wire',
  },
  {
    in: /^client\//,
    may: /^(intents\/|protocol\/|client\/|node:|ws$)/,
    because: 'a sender of commands depends neither on the runner nor on the host',
  },
  {
    in: /^agent\/(cli\/|cli\.ts)/,
    may: /^(intents\/|protocol\/|client\/|agent\/|node:|yaml$|zod$|croner$|commander$)/,
    because: 'the command line is a sender too, from a laptop; the agent itself is not',
  },
  {
    in: /^agent\/executors\/(?!index|exam)[^/]+\//,
    may: /^(intents\/|protocol\/|agent\/plan\/|agent\/executors\/(executor|verify-steps)\.ts$|agent\/executors\/[^/]+\/)/,
    because: 'an executor decides and does nothing: plans are its only output',
  },
  {
    in: /^agent\/plan\//,
    may: /^(intents\/|protocol\/|agent\/plan\/|node:crypto$|node:path$|zod$|dockerode$)/,
    because: 'a plan is data that any room can read',
  },
  {
    in: /^agent\//,
    may: /^(intents\/|protocol\/|agent\/|node:|yaml$|ws$|zod$|jose$|croner$|cockatiel$|nodemailer$|prom-client$|rate-limiter-flexible)/,
    because: 'action and agent share only data that crosses the wire',
  },
];

const ONLY: { what: RegExp; in: RegExp; because: string }[] = [
  { what: /^node:sqlite$/, in: /^agent\/store\/database\.ts$/, because: 'one file opens the database' },
  {
    what: /^node:child_process$/,
    in: /^(agent\/system\/(process|host-reader)\.ts|agent\/compose\/isolation\.ts|action\/git-tree\.ts|client\/diagnose\.ts)$/,
    because:
      'process.ts starts programs that change something, host-reader.ts programs that read, isolation.ts compose on copies; git and tailscale only answer',
  },
];

/** Exported names that several files share on purpose: the same contract in each kind of executor. */
const SHARED_NAMES = ['planBackup', 'planDrill', 'planRestore'];

/** The repository's own files and packages that a source imports, also lazily. */
export function importsOf({ path, text }: Source): string[] {
  const imports = [
    ...text.matchAll(/(?:^|\s)(?:import|export)\s[^;'"]*?from\s+'([^']+)'|import\((?:\/\*.*?\*\/\s*)?'([^']+)'\)/g),
  ];
  return imports.map(([, fixed, lazy]) => {
    const specifier = fixed ?? lazy ?? '';
    return specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : specifier;
  });
}

function roomOf(path: string): number {
  const [, room] = path.split('/');
  return ROOMS.findIndex(([name]) => name === room);
}

/** One line for each import that a wall or the order of the rooms forbids. */
export function brokenWalls(sources: Source[]): string[] {
  return sources
    .filter(({ path }) => /^(intents|protocol|client|action|agent)\//.test(path))
    .flatMap(source => {
      const wall = WALLS.find(one => one.in.test(source.path));
      return importsOf(source).flatMap(specifier => {
        const broken = ONLY.filter(only => only.what.test(specifier) && !only.in.test(source.path)).map(
          only => only.because,
        );
        if (wall && !wall.may.test(specifier)) broken.push(wall.because);
        if (
          source.path.startsWith('agent/') &&
          specifier.startsWith('agent/') &&
          roomOf(specifier) > roomOf(source.path)
        )
          broken.push(
            `agent/${ROOMS[roomOf(specifier)]?.[0]} is above agent/${ROOMS[roomOf(source.path)]?.[0]}: imports run downwards`,
          );
        return broken.map(because => `${source.path} imports ${specifier}, but ${because}`);
      });
    });
}

/** One line for each import circle. */
export function circles(sources: Source[]): string[] {
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

/** One line for each file of `agent/` that is in no room, and each room that is too full. */
export function misplaced(paths: string[]): string[] {
  const homeless = paths
    .filter(path => path.startsWith('agent/') && roomOf(path) < 0)
    .map(path => `${path} is in no room: move it to one of ${ROOMS.map(([room]) => room).join(', ')} (test/rooms.ts)`);
  const folders = Map.groupBy(
    paths.filter(path => path.startsWith('agent/') && path.split('/').length > 2),
    dirname,
  );
  const full = [...folders]
    .filter(([, files]) => files.length > MAX_FILES)
    .map(
      ([folder, files]) => `${folder} has ${files.length} files, at most ${MAX_FILES} are allowed: split it by idea`,
    );
  return [...homeless, ...full];
}

/** One line for each exported name that two files of the product declare. */
export function ownersOfNames(sources: Source[]): string[] {
  const owners = new Map<string, Set<string>>();
  for (const { path, text } of sources)
    for (const [, name = ''] of text.matchAll(
      /^export (?:abstract )?(?:async )?(?:interface|type|class|enum|const|function\*?) (\w+)/gm,
    ))
      owners.set(name, (owners.get(name) ?? new Set()).add(path));
  return [...owners]
    .filter(([name, paths]) => paths.size > 1 && !SHARED_NAMES.includes(name))
    .map(([name, paths]) => `${name} is exported by ${[...paths].join(' and ')}: give each its own name`);
}

/** Tests without a source of their name. Files in test/ run several rooms together or check the whole repository. */
export function orphanedTests(paths: string[], repositoryChecks: string[]): string[] {
  return paths
    .filter(path => path.endsWith('.test.ts'))
    .flatMap(path => {
      if (!path.startsWith('test/'))
        return paths.includes(path.replace('.test.ts', '.ts'))
          ? []
          : [`${path} tests no file of its name: move it next to its source, or to test/ as .e2e.test.ts`];
      const isCheck = repositoryChecks.includes(path.slice('test/'.length, -'.test.ts'.length));
      return path.endsWith('.e2e.test.ts') || isCheck ? [] : [`${path} is in test/: name it .e2e.test.ts`];
    });
}

/** Files that start a program through a shell. */
export function shells(sources: Source[]): string[] {
  return sources.filter(({ text }) => /shell:\s*true|execSync\(|(?<![.#\w])exec\(/.test(text)).map(({ path }) => path);
}

/** Paths of the repository that a page of the documentation names and that do not exist. */
export function missingPaths(pages: Source[], paths: string[]): string[] {
  return pages.flatMap(({ path, text }) =>
    [
      ...text.matchAll(
        /(?<![\w./-])((?:agent|action|client|protocol|intents|test|scripts|bench)\/[\w./-]+\.(?:ts|sh|yaml|json|service))\b/g,
      ),
    ]
      .map(([, named = '']) => named)
      .filter(named => !paths.includes(named))
      .map(named => `${path} names ${named}, which does not exist`),
  );
}

/** Reads the files of the repository that match a pattern. */
export function readSources(pattern: string): Source[] {
  return globSync(pattern, { exclude: path => path === 'node_modules' }).map(path => ({
    path,
    text: readFileSync(path, 'utf8'),
  }));
}
