import { describe, expect, it } from 'vitest';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Step } from '../../plan/plan.ts';
import { blindHostReader } from '../../system/host-reader.ts';
import { testExecutorContract } from '../exam.ts';
import type { Executor, Intent, PlanContext, ShippedFileRef } from '../executor.ts';
import { compose } from './index.ts';

const site: PlanContext['site'] = {
  stacksRoot: '/opt/stacks',
  memory: '/var/lib/chatops/stacks',
  docker: 'docker',
  verify: ['stack', '127.0.0.0/8'],
  compose: { binds: [], ports: [1, 65535], socket: '/s', grantsOf: () => [] },
  proxmox: '',
  backups: { sources: [], destinations: [], remotes: [], databases: [], records: '/var/lib/chatops/backups' },
};
const DIR = '/opt/stacks/stack-media';
const RECORD = '/var/lib/chatops/stacks/stack-media/shipped.json';
const rollout = (changes: object = {}): Intent => ({ action: 'rollout', stack: 'stack-media', ...changes }) as Intent;
const scale = (changes: object = {}): Intent =>
  ({ action: 'scale', stack: 'stack-media', service: 'plex', replicas: 2, ...changes }) as Intent;
const context = (intent: Intent, files: ShippedFileRef[] = [], wantsDiff = false): PlanContext => ({
  document: { name: 'test', document: 1, documents: 1, intent },
  run: 'run-00001',
  at: '2026-11-21T06:00:00.000Z',
  site,
  files,
  wantsDiff,
});
const file = (path: string, sha256 = 'a'): ShippedFileRef => ({
  path,
  mode: 0o644,
  sha256: sha256.repeat(64),
  at: `/run/shipped/${sha256}`,
});

interface Host {
  folders?: Record<string, string[]>;
  files?: Record<string, string>;
  version?: string;
  containers?: { service: string; reference: string; image: string; project?: string; running?: boolean }[];
  /** Ids of images that are there, and tags that keep some. */
  images?: string[];
  kept?: Record<string, string>;
  /** What `config --format json` says. */
  config?: object;
}

/** A host that is a table. */
function hostOf({
  folders = { [DIR]: ['docker-compose.yml'] },
  files = {},
  version = '2.26.1',
  containers = [],
  images = [],
  kept = {},
  config,
}: Host = {}): HostReader {
  return {
    list: async folder => folders[folder] ?? null,
    read: async path => files[path] ?? null,
    ask: async argv =>
      argv.includes('version')
        ? { code: 0, stdout: `${version}\n`, stderr: '' }
        : argv.includes('config') && config
          ? { code: 0, stdout: JSON.stringify(config), stderr: '' }
          : { code: 1, stdout: '', stderr: 'not scripted' },
    engine: async path => {
      const labelsOf = (one: (typeof containers)[number]) => ({
        'com.docker.compose.service': one.service,
        'com.docker.compose.project': one.project ?? 'stack-media',
      });
      if (path.startsWith('/containers/json')) {
        return containers.map((one, index) => ({
          Id: `c${index}`,
          State: 'running',
          Names: [`/c${index}`],
          Labels: labelsOf(one),
        }));
      }
      if (path.startsWith('/images/json')) return Object.entries(kept).map(([tag, Id]) => ({ Id, RepoTags: [tag] }));
      const [, image] = /^\/images\/(.*)\/json$/.exec(path) ?? [];
      if (image !== undefined) return images.includes(decodeURIComponent(image)) ? {} : null;
      const [, number] = /^\/containers\/c(\d+)\/json$/.exec(path) ?? [];
      const one = containers[Number(number)];
      return one
        ? {
            Id: `c${number}`,
            Image: one.image,
            Config: { Image: one.reference, Labels: labelsOf(one) },
            State: { Status: 'running', Running: one.running ?? true },
          }
        : null;
    },
  };
}
const plan = (intent: Intent, host: Host = {}, files: ShippedFileRef[] = []) =>
  (compose as unknown as Executor).plan(intent, context(intent, files), hostOf(host));
const planBlind = (intent: Intent) => (compose as unknown as Executor).plan(intent, context(intent), blindHostReader);
const plex = { service: 'plex', reference: 'plex:1', image: 'sha256:aaa' };
async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
  return 'planned';
}
const argvs = ({ steps }: Plan) =>
  steps.flatMap(step => (step.do === 'start' ? [step.argv.slice(step.argv.indexOf(DIR) + 1).join(' ')] : []));
const changes = (step: Step | undefined) =>
  step?.do === 'write' ? step.changes.map(change => `${'remove' in change ? '-' : '+'}${change.path}`) : [];
const manifest = (files: ShippedFileRef[]) => JSON.stringify({ version: 1, files });

testExecutorContract(compose as unknown as Executor, [
  { name: 'a rollout', intent: rollout(), context: context(rollout()), look: hostOf() },
  {
    name: 'a rollout of one service',
    intent: rollout({ service: 'plex', timeout: '90s' }),
    context: context(rollout({ service: 'plex' })),
    look: hostOf(),
  },
  {
    name: 'a rollout that ships files',
    intent: rollout({ source_dir: 's' }),
    context: context(rollout({ source_dir: 's' }), [file('a'), file('b/c')]),
    look: hostOf(),
  },
  { name: 'a scale', intent: scale(), context: context(scale()), look: hostOf() },
]);

describe('a rollout', () => {
  it('checks and pulls before anything is stopped', async () => {
    expect(argvs(await plan(rollout()))).toEqual([
      'pull --ignore-buildable',
      'up --detach --no-build --remove-orphans',
    ]);
    expect((await plan(rollout())).steps.map(({ name }) => name)).toEqual([
      'images before',
      'check config',
      'pull',
      'up',
      'wait until healthy',
      'images after',
      'remember the release',
    ]);
  });

  it('is of one service where one is named, and of the compose file that is named', async () => {
    const { steps } = await plan(rollout({ service: 'plex', compose: '/opt/stacks/stack-media/docker-compose.yml' }));
    const up = steps.find(({ name }) => name === 'up');
    expect(up).toMatchObject({
      argv: [
        'docker',
        'compose',
        '--ansi',
        'never',
        '--progress',
        'plain',
        '--project-directory',
        DIR,
        '--file',
        `${DIR}/docker-compose.yml`,
        'up',
        '--detach',
        '--no-build',
        '--remove-orphans',
        'plex',
      ],
      cwd: DIR,
    });
    expect(steps.find(step => step.do === 'await-healthy')).toMatchObject({
      project: { dir: DIR, services: ['plex'] },
    });
  });

  it.each<[string, Host | undefined, string]>([
    ['nothing about what runs in a dry run', undefined, ''],
    ['that nothing was started in a first rollout', {}, ' Nothing was started.'],
    [
      'that nothing was started if the old containers are stopped',
      { containers: [{ ...plex, running: false }] },
      ' Nothing was started.',
    ],
    ['that the old version still runs if it does', { containers: [plex] }, ' The old version still runs.'],
  ])('says of a failed pull %s', async (_, host, claim) => {
    const { steps } = host === undefined ? await planBlind(rollout()) : await plan(rollout(), host);
    expect(steps.find(({ name }) => name === 'pull')).toMatchObject({
      failure: {
        code: 'pull-failed',
        remedy: `Check the image’s name and tag, and the host’s login at the registry.${claim}`,
      },
    });
  });

  it('says of a failed canary that the old containers still run only if it has seen them', async () => {
    const canary = rollout({ strategy: 'canary', service: 'plex' });
    const config = { name: 'stack-media', services: { plex: { image: 'plex:2' } } };
    const remedyOf = ({ steps }: Plan) =>
      steps.flatMap(step => (step.do === 'start' && step.name === 'canary' ? [step.failure.remedy] : []));
    expect(remedyOf(await plan(canary, { containers: [plex], config }))).toEqual([
      'Read the step’s output. The old containers still run.',
    ]);
    expect(remedyOf(await planBlind(canary))).toEqual(['Read the step’s output.']);
  });

  it('bounds each long step by the intent’s timeout', async () => {
    const { steps } = await plan(rollout({ timeout: '90s' }));
    for (const name of ['pull', 'up', 'wait until healthy'])
      expect(steps.find(step => step.name === name)).toMatchObject({ timeout: 90_000 });
  });

  it.each<[string, Intent, Host, string]>([
    ['without a folder', rollout(), { folders: {} }, 'stack-missing'],
    ['without a compose file', rollout(), { folders: { [DIR]: ['README.md'] } }, 'compose-file-missing'],
    ['without the compose file that is named', rollout({ compose: 'prod.yaml' }), {}, 'compose-file-missing'],
    [
      'with a compose file that .env names',
      rollout(),
      { folders: { [DIR]: ['.env', 'prod.yaml'] }, files: { [`${DIR}/.env`]: 'A=1\nCOMPOSE_FILE=prod.yaml\n' } },
      'planned',
    ],
    ['with an old compose', rollout(), { version: '2.20.3' }, 'compose-too-old'],
    ['with the oldest compose that will do', rollout(), { version: 'v2.21.0' }, 'planned'],
    ['with a newer one', rollout(), { version: '5.5.0-rc1' }, 'planned'],
  ])('%s', async (_, intent, host, code) => {
    expect(await codeOf(plan(intent, host))).toBe(code);
  });
});

describe('shipping', () => {
  const ships = rollout({ source_dir: 'stacks/media' });

  it('may bring the compose file', async () => {
    expect(await codeOf(plan(ships, { folders: { [DIR]: [] } }, [file('compose.yaml')]))).toBe('planned');
    expect(await codeOf(plan(ships, { folders: { [DIR]: [] } }, [file('other.txt')]))).toBe('compose-file-missing');
  });

  it('records what it will own, writes, removes what it no longer ships, and records again', async () => {
    const host = {
      files: { [RECORD]: manifest([file('compose.yaml'), file('old/file')]) },
      containers: [{ service: 'plex', reference: 'plex:1', image: 'sha256:aaa' }],
    };
    const { steps, undo } = await plan(ships, host, [file('compose.yaml', 'b'), file('new')]);
    const write = steps.find(step => step.do === 'write');
    expect(changes(write)).toEqual([
      `+${RECORD}`,
      `+${DIR}/compose.yaml`,
      `+${DIR}/new`,
      `-${DIR}/old/file`,
      `+${RECORD}`,
    ]);
    const records =
      write?.do === 'write'
        ? write.changes.flatMap(change =>
            'content' in change && 'text' in change.content ? [JSON.parse(change.content.text)] : [],
          )
        : [];
    expect(records.map(({ files }) => files.map(({ path }: ShippedFileRef) => path).sort())).toEqual([
      ['compose.yaml', 'new', 'old/file'],
      ['compose.yaml', 'new'],
    ]);
    expect(steps.indexOf(write as Step)).toBeLessThan(steps.findIndex(({ name }) => name === 'check config'));
    expect(undo.map(({ name, ifBegan }) => [name, ifBegan])).toEqual([
      ['put files back', 'write files'],
      ['put back plex:1', 'pull'],
      ['tidy up', 'up'],
      ['up again', 'up'],
      ['wait until healthy again', 'up'],
      ['images after undo', 'up'],
    ]);
  });

  it('leaves the new files beside what they describe where a first rollout fails late', async () => {
    const { undo } = await plan(ships, { folders: { [DIR]: [] } }, [file('compose.yaml')]);
    expect(undo).toEqual([expect.objectContaining({ do: 'restore', ifBegan: 'write files', unlessBegan: 'up' })]);
  });

  it.each(['.env', 'app/.env', 'db.env', '.env.production'])('never overwrites %s of the host', async path => {
    const folder = path.includes('/') ? `${DIR}/app` : DIR;
    const folders = { [DIR]: ['compose.yaml'], [folder]: ['compose.yaml', path.split('/').at(-1) ?? ''] };
    expect(await codeOf(plan(ships, { folders }, [file(path)]))).toBe('env-file-not-ours');
    expect(await codeOf(plan(ships, { folders, files: { [RECORD]: manifest([file(path)]) } }, [file(path)]))).toBe(
      'planned',
    );
    expect(await codeOf(plan(ships, {}, [file(path)]))).toBe('planned');
  });

  it('does nothing with a record that it can’t read', async () => {
    expect(await codeOf(plan(ships, { files: { [RECORD]: '{' } }, [file('a')]))).toBe('record-unreadable');
  });
});

describe('a scale', () => {
  it('touches one service and waits for its number', async () => {
    const made = await plan(scale({ replicas: 0 }));
    expect(argvs(made)).toEqual(['up --detach --no-build --no-recreate --no-deps --scale plex=0 plex']);
    expect(made.steps.find(step => step.do === 'await-healthy')).toMatchObject({ replicas: { plex: 0 } });
  });
});
