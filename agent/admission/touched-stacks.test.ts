import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Intent } from '../../intents/intent.ts';
import { createContext } from '../executors/exam.ts';
import { Failure } from '../plan/failure.ts';
import { blindHostReader, createHostReader } from '../system/host-reader.ts';
import { findTouchedStacks, type StackEvidence } from './touched-stacks.ts';

let dir: string;
let root: string;
const ENGINE_VOLUMES = '/var/lib/docker/volumes';

beforeAll(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-touched-')));
  root = join(dir, 'stacks');
  for (const folder of [
    'stacks/s/data',
    'stacks/vault/data',
    'srv/shared/vault',
    'srv/alone',
    'nas/nightly',
    'srv/proxy',
  ])
    mkdirSync(join(dir, folder), { recursive: true });
  symlinkSync(join(root, 'vault'), join(root, 's', 'link'));
  symlinkSync(join(root, 'vault'), join(root, 'alias'));
  symlinkSync(join(root, 'vault', 'data'), join(dir, 'srv', 'link'));
  symlinkSync(root, join(dir, 'root-link'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const labels = (folder: string, project = folder.slice(folder.lastIndexOf('/') + 1)) => ({
  'com.docker.compose.project': project,
  'com.docker.compose.project.working_dir': folder,
});
const bind = (Source: string, Destination: string, RW = true) => ({ Type: 'bind', Source, Destination, RW });
const volume = (Name: string, Destination: string) => ({
  ...{ Type: 'volume', Name, Destination, RW: true },
  Source: `${ENGINE_VOLUMES}/${Name}/_data`,
});
/** The containers of the host: name, labels and mounts. */
const containers = (): [string, object, object[]][] => [
  ['s-web', labels(join(root, 's')), [bind(join(root, 's', 'data'), '/data'), volume('shared', '/shared')]],
  ['s-green', labels(join(root, 's'), 's-green'), [bind(join(dir, 'srv', 'shared'), '/all', false)]],
  [
    'vault-db',
    labels(join(root, 'vault'), 'safe'),
    [bind(join(dir, 'srv', 'shared', 'vault'), '/data'), volume('safe_db', '/db')],
  ],
  ['by-link', labels(join(dir, 'root-link', 'vault')), []],
  ['by-hand', {}, [bind(join(root, 'vault', 'data'), '/data')]],
  ['elsewhere', labels('/home/me/vault'), []],
  ['root', labels(root), []],
  ['borrower', labels(join(root, 's')), [volume('shared', '/shared'), bind(join(root, 'vault', 'data'), '/theirs')]],
  ['lender', labels(join(root, 'other')), [volume('shared', '/shared')]],
];
const engine = async (path: string): Promise<unknown> => {
  const all = containers();
  // The engine does not list the folders of volumes.
  const listed = (mounts: object[]) => mounts.map(one => ('Name' in one ? { ...one, Source: '' } : one));
  if (path === '/containers/json?all=1') return all.map(([, Labels, mounts]) => ({ Labels, Mounts: listed(mounts) }));
  if (path === '/volumes')
    return {
      Volumes: [
        { Name: 'shared', Mountpoint: `${ENGINE_VOLUMES}/shared/_data`, Labels: null },
        {
          Name: 'safe_db',
          Mountpoint: `${ENGINE_VOLUMES}/safe_db/_data`,
          Labels: { 'com.docker.compose.project': 'safe' },
        },
        {
          Name: 'orphan',
          Mountpoint: `${ENGINE_VOLUMES}/orphan/_data`,
          Labels: { 'com.docker.compose.project': 'vault-green' },
        },
        {
          Name: 'moved',
          Mountpoint: `${ENGINE_VOLUMES}/moved/_data`,
          Labels: { 'com.docker.compose.project': 'vault' },
          Options: { device: join(dir, 'srv', 'alone') },
        },
        { Name: 'plain', Mountpoint: `${ENGINE_VOLUMES}/plain/_data` },
      ],
    };
  const name = /^\/containers\/([^/]+)\/json$/.exec(path)?.[1];
  const found = all.find(([one]) => one === name);
  return found ? { Config: { Labels: found[1] }, Mounts: found[2] } : null;
};

async function touched(intent: object, host: Partial<StackEvidence> = {}): Promise<string[]> {
  const { site } = createContext(Intent.parse(intent), {
    site: {
      stacksRoot: root,
      switchFoldersOf: stack => (stack === 's' ? [join(root, 'vault', 'dynamic'), join(dir, 'srv', 'proxy')] : []),
    },
  });
  const reader = { ...createHostReader({ get: engine as never }, {}, async () => undefined), ...host };
  const [stacks = []] = await findTouchedStacks([Intent.parse(intent)], site, reader);
  return stacks
    .map(
      ({ name, granted, unresolved }) => `${name ?? (unresolved ? 'unknown' : 'every')}${granted ? ' (granted)' : ''}`,
    )
    .sort();
}
const backup = (source: string) => ({
  action: 'backup',
  backup_type: 'docker_volumes',
  source,
  destination: '/mnt/nas',
});
const inContainer = (source_container: string, source_path: string) => ({
  ...{ action: 'backup', backup_type: 'docker_volumes', destination: '/mnt/nas' },
  ...{ source_container, source_path },
});
const manifest = (source: string, kind = 'docker_volumes') =>
  JSON.stringify({
    ...{ kind, name: 'nightly', run: 'run-00001', at: '2026-11-20T06:00:00.000Z', source },
    ...{ bytes: 1, files: 1, sha256: '' },
  });
describe('a path belongs', () => {
  it.each<[string, () => string, string[]]>([
    ['to the stack of its folder', () => join(root, 's', 'data'), ['s']],
    ['to the stack of its folder before the folder exists', () => join(root, 'new', 'data'), ['new']],
    ['to both stacks if a link leads from one to the other', () => join(root, 's', 'link', 'data'), ['s', 'vault']],
    ['to the stack to which a link from outside leads', () => join(dir, 'srv', 'link'), ['vault']],
    ['to the stack of its folder if the root is named by a link', () => join(dir, 'root-link', 's'), ['s']],
    ['to every stack if it is the root of them', () => root, ['every']],
    ['to every stack if it holds the root', () => dir, ['every']],
    ['to the stack whose container writes there', () => join(dir, 'srv', 'shared', 'vault', 'a'), ['vault']],
    ['to that stack and to none if it holds the folder', () => join(dir, 'srv', 'shared'), ['', 'vault']],
    ['to no stack if a container only reads there', () => join(dir, 'srv', 'shared', 'x'), ['']],
    ['to all stacks that share a volume', () => `${ENGINE_VOLUMES}/shared/_data`, ['other', 's']],
    ['to the stack of a volume by the project of its containers', () => `${ENGINE_VOLUMES}/safe_db/_data/x`, ['vault']],
    ['to the stack of a volume by its label', () => `${ENGINE_VOLUMES}/orphan/_data`, ['vault']],
    ['to the stack of a volume that is stored elsewhere', () => join(dir, 'srv', 'alone'), ['vault']],
    ['to no stack if its volume has no label', () => `${ENGINE_VOLUMES}/plain/_data`, ['']],
    ['to all stacks that have a volume below it', () => ENGINE_VOLUMES, ['', 'other', 's', 'vault']],
  ])('%s', async (_, path, stacks) => {
    expect(await touched(backup(path()))).toEqual(stacks);
  });
});

describe('a container belongs', () => {
  it.each<[string, string, string, string[]]>([
    ['to the stack from whose folder compose started it', 's-web', '/data', ['s']],
    ['to its stack under the second name of blue-green', 's-green', '/x', ['s']],
    ['to its stack, not to the one that its project is named like', 'vault-db', '/db', ['vault']],
    ['to its stack if the folder was named by a link', 'by-link', '/x', ['vault']],
    ['to no stack, but its data does, without compose', 'by-hand', '/data', ['', 'vault']],
    ['to no stack if compose started it elsewhere', 'elsewhere', '/x', ['']],
    ['to no stack if compose started it in the root', 'root', '/x', ['']],
    ['to its stack and to those that share the volume', 'borrower', '/shared/x', ['other', 's']],
    ['to its stack and to the one whose folder it mounts', 'borrower', '/theirs', ['s', 'vault']],
    ['to an unknown stack if it does not exist', 'missing', '/x', ['unknown']],
  ])('%s', async (_, name, path, stacks) => {
    expect(await touched(inContainer(name, path))).toEqual(stacks);
  });
});

describe('an intent touches', () => {
  it.each<[string, () => object, string[]]>([
    ['the stack that it names', () => ({ action: 'rollout', stack: 's' }), ['s']],
    [
      'the stack to which the folder of its stack is a link',
      () => ({ action: 'rollout', stack: 'alias' }),
      ['alias', 'vault'],
    ],
    [
      'no stack with a guest, even if it names one',
      () => ({ action: 'backup', backup_type: 'vm_proxmox', vm_id: 101, storage: 'nas', stack: 's' }),
      ['', 's'],
    ],
    [
      'the stack in whose folder it stores backups',
      () => ({ ...backup(join(root, 's')), destination: join(root, 'vault', 'nas') }),
      ['s', 'vault'],
    ],
    ['no stack with a place of backups', () => backup(join(root, 's')), ['s']],
    [
      'the stack of a switch file',
      () => ({
        action: 'rollout',
        stack: 's',
        strategy: 'blue-green',
        switch: { file: join(root, 'vault', 'compose.yaml'), text: 'x' },
      }),
      ['s', 'vault'],
    ],
    [
      'the stack of a switch file in a listed folder only for deny rules',
      () => ({
        action: 'rollout',
        stack: 's',
        strategy: 'blue-green',
        switch: { file: join(root, 'vault', 'dynamic', 'x.conf'), text: 'x' },
      }),
      ['s', 'vault (granted)'],
    ],
    [
      'no stack with a switch file in a listed folder outside of stacks',
      () => ({
        action: 'rollout',
        stack: 's',
        strategy: 'blue-green',
        switch: { file: join(dir, 'srv', 'proxy', 'x'), text: 'x' },
      }),
      [' (granted)', 's'],
    ],
  ])('%s', async (_, intent, stacks) => {
    expect(await touched(intent())).toEqual(stacks);
  });

  it.each<[string, string, (() => string)[], string[]]>([
    ['the stack whose folder was backed up', 'docker_volumes', [() => manifest(join(root, 'vault'))], ['vault']],
    ['the stack whose container was backed up', 'docker_volumes', [() => manifest('vault-db:/db')], ['vault']],
    ['the stack whose database was dumped', 'postgres', [() => manifest('vault-db/shop', 'postgres')], ['vault']],
    [
      'the stack of a server’s socket',
      'mysql',
      [() => manifest(`${join(root, 'vault', 'run')}/shop`, 'mysql')],
      ['vault'],
    ],
    [
      'the stacks of all backups of that name',
      'docker_volumes',
      [() => manifest(join(root, 's')), () => manifest(join(root, 'vault'))],
      ['s', 'vault'],
    ],
    [
      'no stack of another kind of backup',
      'docker_volumes',
      [() => manifest(join(root, 's')), () => manifest('vault-db/shop', 'postgres')],
      ['s'],
    ],
    ['an unknown stack, with a backup that has no manifest', 'docker_volumes', [], ['unknown']],
    [
      'an unknown stack, with a backup of a container that is gone',
      'sqlite',
      [() => manifest('gone:/db', 'sqlite')],
      ['unknown'],
    ],
    ['an unknown stack, with a manifest that misleads', 'docker_volumes', [() => manifest('/x/../y')], ['unknown']],
  ])('%s', async (_, kind, manifests, stacks) => {
    const folder = join(dir, 'nas', 'nightly');
    for (const [index, text] of manifests.entries()) writeFileSync(join(folder, `${index}.json`), text());
    const of = { kind, name: 'nightly' };
    const isServer = kind === 'postgres' || kind === 'mysql';
    const target = isServer ? { to_container: 's-web' } : { to: join(root, 's', 'x') };
    expect(await touched({ action: 'drill', of, from: join(dir, 'nas') })).toEqual(stacks);
    expect(await touched({ action: 'restore', of, from: join(dir, 'nas'), ...target })).toEqual(
      [...new Set(['s', ...stacks])].sort(),
    );
    rmSync(folder, { recursive: true });
    mkdirSync(folder);
  });

  it('an unknown stack if the engine does not answer, but only if it has to be asked', async () => {
    const down = {
      engine: async () => {
        throw new Failure('docker-unreachable', 'The engine is away.', '');
      },
    };
    expect(await touched(inContainer('s-web', '/data'), down)).toEqual(['unknown']);
    expect(await touched(backup('/srv/x'), down)).toEqual(['unknown']);
    expect(await touched(backup(join(root, 's')), down)).toEqual(['s']);
    expect(await touched(backup('/srv/x'), blindHostReader)).toEqual(['unknown']);
    const unreadable = { list: () => Promise.reject(Object.assign(new Error('EACCES'), { syscall: 'scandir' })) };
    expect(await touched({ action: 'drill', of: 'nightly', from: '/mnt/nas' }, unreadable)).toEqual(['unknown']);
  });
});
