import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { MountSource } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { runPrepareMounts } from './prepare-mounts.ts';
import type { StepContext } from './runner.ts';

let dir: string;
let stack: string;
let config: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-mounts-')));
  stack = join(dir, 'stacks/web');
  config = join(dir, 'config.json');
  for (const folder of ['stacks/web/data/deep', 'outside', 'shared/media/films'])
    mkdirSync(join(dir, folder), { recursive: true });
  writeFileSync(join(stack, 'app.conf'), '');
  writeFileSync(config, '{}');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

interface FakeContainer {
  name: string;
  mounts: { source: string; rw?: boolean; volume?: string }[];
  stopped?: true;
  restart?: string;
  dir?: string;
}

/** An engine with these containers. `volumes`: the device of each. */
function engineWith(containers: FakeContainer[], volumes: Record<string, string> = {}): StepContext['engine'] {
  const answers: Record<string, unknown> = {
    '/containers/json?all=1': containers.map(one => ({
      Id: one.name,
      Labels: { 'com.docker.compose.project.working_dir': one.dir ?? '/opt/other' },
    })),
    '/volumes': {
      Volumes: Object.entries(volumes).map(([Name, device]) => ({ Name, Options: { o: 'bind', device } })),
    },
  };
  for (const { name, mounts, stopped, restart } of containers)
    answers[`/containers/${name}/json`] = {
      Name: `/${name}`,
      State: { Running: !stopped },
      HostConfig: { RestartPolicy: { Name: restart ?? 'no' } },
      Mounts: mounts.map(({ source, rw = true, volume }) => ({
        Source: source,
        RW: rw,
        ...(volume ? { Name: volume } : {}),
      })),
    };
  return { get: async (path: string) => answers[path] ?? null } as unknown as StepContext['engine'];
}

const mountOf = (source: string, changes: Partial<MountSource> = {}): MountSource => ({
  ...{ kind: 'bind', services: ['web'], source, root: stack, writable: false, create: true },
  ...changes,
});

async function prepare(
  mounts: MountSource[],
  {
    engine = engineWith([]),
    nested = false,
    digest,
  }: { engine?: StepContext['engine']; nested?: boolean; digest?: string } = {},
): Promise<StepResult & { text: string }> {
  const sha256 = digest ?? createHash('sha256').update('{}').digest('hex');
  const step = {
    do: 'prepare-mounts',
    name: 'prepare',
    config: { file: config, sha256 },
    mounts,
    project: { dir: stack },
    nested,
  } as const;
  const work = runPrepareMounts(step, { engine, signal: new AbortController().signal } as StepContext);
  let text = '';
  let next = await work.next();
  for (; !next.done; next = await work.next()) if ('text' in next.value) text += next.value.text;
  return { ...next.value, text };
}

describe('the sources of a config’s mounts', () => {
  it('are accepted as they are, and missing folders are created one below the other', async () => {
    const mounts = [
      mountOf(join(stack, 'data')),
      mountOf(join(stack, 'app.conf')),
      mountOf(join(stack, 'app.conf'), { kind: 'config', create: false }),
      mountOf(join(stack, 'new/er/est')),
      mountOf(join(dir, 'shared/media'), { root: join(dir, 'shared') }),
      mountOf(join(dir, 'granted/new'), { root: undefined }),
    ];
    expect(await prepare(mounts)).toMatchObject({ outcome: 'succeeded' });
    expect(statSync(join(stack, 'new/er')).mode & 0o777).toBe(0o755);
    expect(existsSync(join(dir, 'granted/new'))).toBe(true);
  });

  it('may be below a root that the administrator made a link', async () => {
    symlinkSync(join(dir, 'shared'), join(dir, 'link'));
    const mounts = [mountOf(join(dir, 'link/media/new'), { root: join(dir, 'link') })];
    expect(await prepare(mounts)).toMatchObject({ outcome: 'succeeded' });
    expect(existsSync(join(dir, 'shared/media/new'))).toBe(true);
  });

  it.each<[string, string, Partial<MountSource>]>([
    ['mount-link', 'link', {}],
    ['mount-link', 'link/new.d', {}],
    ['mount-link', 'link/new.d', { create: false }],
    ['mount-link', 'dangling', {}],
    ['mount-link', 'dangling/new', {}],
    ['mount-link', 'app.conf/new', {}],
    ['mount-link', '../other', {}],
    ['mount-missing', 'none', { create: false }],
    ['mount-missing', 'none', { kind: 'secret' }],
    ['mount-unusable', 'data', { kind: 'secret' }],
    ['mount-link', 'link', { kind: 'secret' }],
  ])('are refused with %s: %s %j', async (code, path, changes) => {
    symlinkSync(join(dir, 'outside'), join(stack, 'link'));
    symlinkSync(join(dir, 'nowhere'), join(stack, 'dangling'));
    const result = await prepare([mountOf(join(stack, 'first')), mountOf(`${stack}/${path}`, changes)]);
    expect(result).toMatchObject({ outcome: 'failed', code });
    // Nothing is created if a later source is refused.
    for (const made of ['stacks/web/first', 'outside/new.d', 'nowhere', 'stacks/other'])
      expect(existsSync(join(dir, made)), made).toBe(false);
  });

  it('are refused if the checked config was changed or removed', async () => {
    expect(await prepare([], { digest: 'f'.repeat(64) })).toMatchObject({ code: 'config-changed' });
    rmSync(config);
    expect(await prepare([])).toMatchObject({ code: 'config-changed' });
  });
});

describe('a source below a folder that a container may write', () => {
  const films = () => mountOf(join(dir, 'shared/media/films'), { root: join(dir, 'shared') });
  const writer = (source: string, changes: Partial<FakeContainer> = {}): FakeContainer[] => [
    { name: 'sonarr', mounts: [{ source: join(dir, source) }], ...changes },
  ];

  it.each<[string, FakeContainer['mounts'], Record<string, string>]>([
    ['by a bind', [{ source: 'shared/media' }], {}],
    ['by a bind above the root', [{ source: '.' }], {}],
    ['by a bind under another name', [{ source: 'alias/media' }], {}],
    ['by a volume of a folder', [{ source: 'none', volume: 'films' }], { films: 'shared/media' }],
  ])('is refused: %s', async (_, mounts, volumes) => {
    symlinkSync(join(dir, 'shared'), join(dir, 'alias'));
    const absolute = mounts.map(one => ({ ...one, source: join(dir, one.source) }));
    const devices = Object.fromEntries(Object.entries(volumes).map(([name, path]) => [name, join(dir, path)]));
    const engine = engineWith([{ name: 'sonarr', mounts: absolute }], devices);
    const result = await prepare([films()], { engine });
    expect(result).toMatchObject({ outcome: 'failed', code: 'mount-nested' });
    expect(result.message).toContain('sonarr');
    expect(result.remedy).toContain('nested-binds');
    expect(await prepare([films()], { engine, nested: true })).toMatchObject({ outcome: 'succeeded' });
  });

  it('is refused also if it does not exist yet, and if the way to its root is a link through that folder', async () => {
    const engine = engineWith(writer('shared/media'));
    const missing = mountOf(join(dir, 'shared/media/new'), { root: join(dir, 'shared') });
    expect(await prepare([missing], { engine })).toMatchObject({ code: 'mount-nested' });
    symlinkSync(join(dir, 'outside'), join(dir, 'shared/media/way'));
    symlinkSync(join(dir, 'shared/media/way'), join(dir, 'start'));
    const linked = mountOf(join(dir, 'start/new'), { root: join(dir, 'start') });
    expect(await prepare([linked], { engine })).toMatchObject({ code: 'mount-nested' });
    expect(existsSync(join(dir, 'outside/new'))).toBe(false);
  });

  it.each<[string, () => FakeContainer[]]>([
    ['the same folder', () => writer('shared/media/films')],
    ['a folder next to it', () => writer('shared/other')],
    ['a folder whose name begins alike', () => writer('shared/med')],
    ['a container that may only read', () => writer('', { mounts: [{ source: join(dir, 'shared'), rw: false }] })],
    ['a stopped container of its own stack', () => writer('shared/media', { stopped: true, dir: stack })],
    [
      'a container of its own stack that stays stopped',
      () => writer('shared/media', { stopped: true, dir: stack, restart: 'unless-stopped' }),
    ],
    ['a container with the whole host', () => writer('', { mounts: [{ source: '/' }] })],
  ])('is accepted next to %s', async (_, containers) => {
    expect(await prepare([films()], { engine: engineWith(containers()) })).toMatchObject({ outcome: 'succeeded' });
  });

  it.each<[string, Partial<FakeContainer>]>([
    ['another stack', {}],
    ['another stack that the engine starts again', { restart: 'always' }],
    ['its own stack that the engine starts again', { restart: 'always', dir: 'own' }],
    ['its own stack that the engine starts again after a failure', { restart: 'on-failure', dir: 'own' }],
  ])('is refused also while that container is stopped, if it is of %s', async (_, changes) => {
    const one = { ...changes, stopped: true as const, ...(changes.dir ? { dir: stack } : {}) };
    expect(await prepare([films()], { engine: engineWith(writer('shared/media', one)) })).toMatchObject({
      code: 'mount-nested',
    });
  });

  it('is refused if the new mount would be the one that may write', async () => {
    const media = (changes: Partial<MountSource>) =>
      mountOf(join(dir, 'shared/media'), { root: join(dir, 'shared'), ...changes });
    const other = writer('shared/media/films', { stopped: true });
    expect(await prepare([media({ writable: true })], { engine: engineWith(other) })).toMatchObject({
      code: 'mount-nested',
    });
    expect(await prepare([media({})], { engine: engineWith(other) })).toMatchObject({ outcome: 'succeeded' });
    const own = writer('shared/media/films', { stopped: true, dir: stack });
    expect(await prepare([media({ writable: true })], { engine: engineWith(own) })).toMatchObject({
      outcome: 'succeeded',
    });
  });
});

describe('a source below a folder that a container writes under another name', () => {
  const mounted: string[] = [];
  afterEach(() => {
    for (const at of mounted.splice(0).reverse()) execFileSync('umount', [at]);
  });

  /** Mounts a folder at a second one, as an administrator does on the host. */
  function bind(from: string, to: string): void {
    const at = join(dir, to);
    mkdirSync(at, { recursive: true });
    execFileSync('mount', ['--bind', join(dir, from), at]);
    mounted.push(at);
  }
  const writerOf = (source: string) => engineWith([{ name: 'sonarr', mounts: [{ source: join(dir, source) }] }]);
  const films = (path: string) => mountOf(join(dir, path), { root: dir });

  it.each<[string, [from: string, to: string][], written: string, source: string]>([
    ['the second name of a parent', [['shared/media', 'alias']], 'alias', 'shared/media/films'],
    ['a parent, whose second name the source has', [['shared/media', 'alias']], 'shared/media', 'alias/films'],
    ['a parent of what the second name shows', [['shared/media', 'alias']], 'shared', 'alias/films'],
    ['a folder in which a parent has its second name', [['shared/media', 'rest/in/it']], 'rest', 'shared/media/films'],
    [
      'a parent by two names',
      [
        ['shared', 'one'],
        ['one/media', 'two'],
      ],
      'shared',
      'two/films',
    ],
    ['a parent, also of a folder that does not exist', [['shared/media', 'alias']], 'shared', 'alias/new/folder'],
  ])('is refused: the container writes %s', async (_, binds, written, source) => {
    for (const [from, to] of binds) bind(from, to);
    expect(await prepare([films(source)], { engine: writerOf(written) })).toMatchObject({ code: 'mount-nested' });
  });

  it('is refused as well if the new mount is the one that may write', async () => {
    bind('shared/media', 'alias');
    const other = engineWith([
      { name: 'plex', mounts: [{ source: join(dir, 'alias/films'), rw: false }], stopped: true },
    ]);
    const media = { ...films('shared'), writable: true };
    expect(await prepare([media], { engine: other })).toMatchObject({ code: 'mount-nested' });
  });

  it.each([
    ['alias', 'shared/media'],
    ['alias/films', 'shared/media/films'],
    ['shared/other', 'alias/films'],
    ['alias/other', 'shared/media/films'],
  ])('is accepted if the container writes the same folder, or one next to it: %s, %s', async (written, source) => {
    bind('shared/media', 'alias');
    for (const folder of ['shared/other', 'shared/media/other']) mkdirSync(join(dir, folder), { recursive: true });
    expect(await prepare([films(source)], { engine: writerOf(written) })).toMatchObject({ outcome: 'succeeded' });
  });
});
