import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

/** An issue form as GitHub reads it. */
interface Form {
  name?: string;
  description?: string;
  body?: { type?: string; id?: string; attributes?: { label?: string; value?: string; options?: unknown[] } }[];
}

const read = (path: string): string => readFileSync(path, 'utf8');
const json = <T>(path: string): T => JSON.parse(read(path)) as T;
const manifest = json<{ engines: { node: string }; devDependencies: { node: string } }>('package.json');

/** Returns why GitHub would not show this issue form. */
function formProblems({ name, description, body = [] }: Form): string[] {
  const found: string[] = [];
  if (!name || !description) found.push('no name or no description');
  if (!body.some(({ type }) => type !== 'markdown')) found.push('no field');
  const ids = body.flatMap(({ id }) => id ?? []);
  if (new Set(ids).size < ids.length) found.push('an id twice');
  for (const { type = '', id, attributes = {} } of body) {
    if (!['markdown', 'input', 'textarea', 'dropdown', 'checkboxes'].includes(type))
      found.push(`unknown type: ${type}`);
    if (type === 'markdown' ? !attributes.value : !attributes.label || !id) found.push(`an incomplete ${type}`);
    if (['dropdown', 'checkboxes'].includes(type) && !attributes.options?.length) found.push(`no options: ${id}`);
  }
  return found;
}

/** Returns the files of this repository that a CODEOWNERS line without a match names. */
function ownersWithoutFiles(owners: string, files: string[]): string[] {
  const lines = owners.split('\n').filter(line => line.trim() && !line.startsWith('#'));
  const paths = lines.map(line => line.split(/\s+/)[0] ?? '');
  return paths.filter(path => path !== '*' && !files.some(file => `/${file}`.startsWith(path)));
}

describe('issue forms', () => {
  it.each(globSync('.github/ISSUE_TEMPLATE/{bug,feature}.yml'))('%s is complete', path => {
    expect(formProblems(parse(read(path)) as Form)).toEqual([]);
  });

  it('are refused when a field has an unknown type, no id or no options', () => {
    const attributes = { label: 'x' };
    const body = [
      { type: 'text', id: 'a', attributes },
      { type: 'input', attributes },
      { type: 'dropdown', id: 'a', attributes },
    ];
    expect(formProblems({ name: 'x', body })).toEqual([
      'no name or no description',
      'an id twice',
      'unknown type: text',
      'an incomplete input',
      'no options: a',
    ]);
  });

  it('send reports of weaknesses to SECURITY.md', () => {
    expect(parse(read('.github/ISSUE_TEMPLATE/config.yml'))).toMatchObject({
      blank_issues_enabled: false,
      contact_links: [
        { url: expect.stringMatching(/\/security\/policy$/), about: expect.stringContaining('SECURITY.md') },
        {},
      ],
    });
    expect(existsSync('SECURITY.md')).toBe(true);
  });
});

describe('CODEOWNERS', () => {
  const files = execFileSync('git', ['ls-files'], { encoding: 'utf8' }).split('\n');

  it('names paths that exist', () => {
    expect(ownersWithoutFiles(read('.github/CODEOWNERS'), files)).toEqual([]);
    expect(ownersWithoutFiles('* @org/a\n/gone/ @org/b\n', files)).toEqual(['/gone/']);
  });
});

describe('the version of Node', () => {
  it('is the same in .node-version, package.json and action.yml', () => {
    const version = read('.node-version').trim();
    expect(manifest.devDependencies.node).toBe(version);
    expect(manifest.engines.node).toBe(`>=${version.split('.')[0]}`);
    expect(read('action.yml')).toContain(`using: node${version.split('.')[0]}`);
  });
});

describe('the devcontainer', () => {
  const container = json<{ features: Record<string, object>; remoteUser: string; postCreateCommand: string }>(
    '.devcontainer/devcontainer.json',
  );

  it('brings an engine, and runs a make target that exists', () => {
    expect(Object.keys(container.features)).toEqual([expect.stringContaining('/docker-in-docker:')]);
    expect(container.remoteUser).toBe('root');
    const [, target] = /^make ([a-z]+)$/.exec(container.postCreateCommand) ?? [];
    expect(execFileSync('make', ['help'], { encoding: 'utf8' })).toContain(`make ${target} `);
  });
});

describe('CI', () => {
  const { jobs } = parse(read('.github/workflows/ci.yml')) as {
    jobs: Record<string, { strategy?: { matrix: { shard: string[] } } }>;
  };

  it('has a job for checks, one for unit tests, and every shard of the end-to-end tests', () => {
    expect(Object.keys(jobs)).toEqual(['check', 'unit', 'e2e']);
    const shards = jobs.e2e?.strategy?.matrix.shard ?? [];
    expect(shards.length).toBeGreaterThan(1);
    expect(shards).toEqual(shards.map((_, index) => `${index + 1}/${shards.length}`));
  });

  it('calls make targets that exist', () => {
    const help = execFileSync('make', ['help'], { encoding: 'utf8' });
    const lines = [...globSync('.github/workflows/*.yml').map(path => read(path)), read('.ci/run')].join('\n');
    const called = [...lines.matchAll(/\bmake ([a-z0-9]+)/g)].map(([, target = '']) => target);
    expect(called).toEqual(expect.arrayContaining(['check', 'unit', 'e2e', 'fuzz', 'test']));
    for (const target of called) expect(help).toContain(`make ${target} `);
  });
});

describe('renovate.json', () => {
  const { customManagers } = json<{ customManagers: { managerFilePatterns: string[]; matchStrings: string[] }[] }>(
    'renovate.json',
  );

  it('finds each pinned action that the documentation shows', () => {
    const pages = ['README.md', ...globSync('docs/**/*.md')];
    const pinned = pages.flatMap(page => [...read(page).matchAll(/uses: \S+@[0-9a-f]{40}/g)]);
    const found = customManagers.flatMap(({ managerFilePatterns, matchStrings }) =>
      pages
        .filter(page => managerFilePatterns.some(pattern => new RegExp(pattern.slice(1, -1)).test(page)))
        .flatMap(page => matchStrings.flatMap(one => [...read(page).matchAll(new RegExp(one, 'g'))])),
    );
    expect(pinned.length).toBeGreaterThan(1);
    expect(found.map(([, name]) => name)).toHaveLength(pinned.length);
  });
});

describe('.gitattributes', () => {
  it('keeps the bundles as built and out of diffs', () => {
    const [path = ''] = globSync('dist/agent/index.js');
    const attributes = execFileSync('git', ['check-attr', 'diff', 'text', 'linguist-generated', '--', path], {
      encoding: 'utf8',
    });
    expect(attributes.trim().split('\n')).toEqual([
      `${path}: diff: unset`,
      `${path}: text: unset`,
      `${path}: linguist-generated: set`,
    ]);
  });
});
