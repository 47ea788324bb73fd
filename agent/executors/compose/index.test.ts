import { describe, expect, it } from 'vitest';
import { CONFIGS, context, DIR, file, type Host, hostWith, RECORD, rollout } from '../../../test/stand/compose-host.ts';
import { Failure } from '../../plan/failure.ts';
import type { ComposeConfig, HostReader, Plan, RenderedStack, Step } from '../../plan/plan.ts';
import { blindHostReader } from '../../system/host-reader.ts';
import { testExecutorContract } from '../exam.ts';
import type { Executor, Intent, ShippedFileRef } from '../executor.ts';
import { compose } from './index.ts';

const scale = (changes: object = {}): Intent =>
  ({ action: 'scale', stack: 'stack-media', service: 'plex', replicas: 2, ...changes }) as Intent;
const plan = (intent: Intent, host: Host = {}, files: ShippedFileRef[] = []) =>
  (compose as unknown as Executor).plan(intent, context(intent, files), hostWith(host));
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
const composeArgsOf = ({ steps }: Plan) =>
  steps.flatMap(step => (step.do === 'start' ? [step.argv.slice(step.argv.indexOf('extra') + 1).join(' ')] : []));
const changes = (step: Step | undefined) =>
  step?.do === 'write' ? step.changes.map(change => `${'remove' in change ? '-' : '+'}${change.path}`) : [];
const recordOf = (files: ShippedFileRef[]) => JSON.stringify({ version: 1, files });

testExecutorContract(compose as unknown as Executor, [
  { name: 'a rollout', intent: rollout(), context: context(rollout()), look: hostWith() },
  {
    name: 'a rollout of one service',
    intent: rollout({ service: 'plex', timeout: '90s' }),
    context: context(rollout({ service: 'plex' })),
    look: hostWith(),
  },
  {
    name: 'a rollout that ships files',
    intent: rollout({ source_dir: 's' }),
    context: context(rollout({ source_dir: 's' }), [file('a'), file('b/c')]),
    look: hostWith(),
  },
  { name: 'a scale', intent: scale(), context: context(scale()), look: hostWith() },
]);

describe('the plan of a rollout', () => {
  it.each<[string, object, string[], string | undefined]>([
    ['without its image', { plex: { build: '.' } }, [], 'image-missing'],
    ['with its image', { plex: { build: '.' } }, ['stack-media-plex'], undefined],
    ['whose image has a name', { plex: { build: '.', image: 'own:1' } }, ['stack-media-plex'], 'image-missing'],
    ['that has no containers', { plex: { build: '.', scale: 0 } }, [], undefined],
    ['of an inactive profile', { plex: { build: '.', profiles: ['x'] } }, [], undefined],
    ['that another rollout is about', { plex: { image: 'plex:2' }, own: { build: '.' } }, [], undefined],
  ])(
    'fails for a service that is built elsewhere, before anything changes: %s',
    async (name, services, images, code) => {
      const intent = rollout(name === 'that another rollout is about' ? { service: 'plex' } : {});
      const config = { name: 'stack-media', services } as ComposeConfig;
      expect(await codeOf(plan(intent, { config, images }))).toBe(code ?? 'planned');
    },
  );

  it('waits as long as agent.yaml says for a container without a health check', async () => {
    const given = context(rollout({ verify: { healthy: ['plex'] } }));
    const planned = { ...given, site: { ...given.site, settle: 7_000 } };
    const { steps } = await (compose as unknown as Executor).plan(given.document.intent, planned, hostWith());
    expect(steps.flatMap(step => (step.do === 'await-healthy' ? step.settle : []))).toEqual([7_000, 7_000]);
  });

  it('pulls and checks the mounts before anything is stopped', async () => {
    expect(composeArgsOf(await plan(rollout()))).toEqual([
      'pull --ignore-buildable',
      'up --detach --no-build --remove-orphans',
    ]);
    expect((await plan(rollout())).steps.map(({ name }) => name)).toEqual([
      'images before',
      'pull',
      'prepare mounts',
      'up',
      'wait until healthy',
      'images after',
      'remember the release',
    ]);
  });

  it('names the service of the intent and the active profiles', async () => {
    const { steps } = await plan(rollout({ service: 'plex' }));
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
        '--project-name',
        'stack-media',
        '--file',
        `${CONFIGS}/next.json`,
        '--env-file',
        '/dev/null',
        '--profile',
        'extra',
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
    const remedyOf = ({ steps }: Plan) =>
      steps.flatMap(step => (step.do === 'start' && step.name === 'canary' ? [step.failure.remedy] : []));
    expect(remedyOf(await plan(canary, { containers: [plex] }))).toEqual([
      'Read the step’s output. The old containers still run.',
    ]);
    expect(remedyOf(await planBlind(canary))).toEqual(['Read the step’s output.']);
  });

  it('limits each long step by the intent’s timeout', async () => {
    const { steps } = await plan(rollout({ timeout: '90s' }));
    for (const name of ['pull', 'up', 'wait until healthy'])
      expect(steps.find(step => step.name === name)).toMatchObject({ timeout: 90_000 });
  });

  it.each<[string, Intent, Host, string]>([
    ['is refused without a folder', rollout(), { folders: {} }, 'stack-missing'],
    ['is refused without a compose file', rollout(), { folders: { [DIR]: ['README.md'] } }, 'compose-file-missing'],
    [
      'is refused without the compose file that the intent names',
      rollout({ compose: 'prod.yaml' }),
      {},
      'compose-file-missing',
    ],
    [
      'accepts a compose file that .env names',
      rollout(),
      { folders: { [DIR]: ['.env', 'prod.yaml'] }, files: { [`${DIR}/.env`]: 'A=1\nCOMPOSE_FILE=prod.yaml\n' } },
      'planned',
    ],
    ['is refused with an old compose', rollout(), { version: '2.25.9' }, 'compose-too-old'],
    ['accepts the oldest supported compose', rollout(), { version: 'v2.26.0' }, 'planned'],
    ['accepts a newer compose', rollout(), { version: '5.5.0-rc1' }, 'planned'],
  ])('%s', async (_, intent, host, code) => {
    expect(await codeOf(plan(intent, host))).toBe(code);
  });
});

describe('warnings about a stack', () => {
  const warnings = [1, 2, 3, 4].map(line => `${DIR}/compose.yaml:${line}: the variable V${line} is not set.`);
  const host = hostWith();
  const look: HostReader = {
    ...host,
    render: async request => ({ ...((await host.render(request)) as RenderedStack), warnings }),
  };

  it.each<Intent>([rollout(), { action: 'scale', stack: 'stack-media', service: 'plex', replicas: 1 }])(
    'are in the plan of $action, and the first of them in its summary',
    async intent => {
      const planned = await (compose as unknown as Executor).plan(intent, context(intent, [], true), look);
      expect(planned.warnings).toEqual(warnings);
      expect(planned.summary).toContain(`. ${warnings.slice(0, 3).join(' ')} The log has all 4 warnings.`);
    },
  );
});

describe('the plan of a rollout that ships files', () => {
  const ships = rollout({ source_dir: 'stacks/media' });

  it('accepts a compose file among the shipped files', async () => {
    expect(await codeOf(plan(ships, { folders: { [DIR]: [] } }, [file('compose.yaml')]))).toBe('planned');
    expect(await codeOf(plan(ships, { folders: { [DIR]: [] } }, [file('other.txt')]))).toBe('compose-file-missing');
  });

  it('records all names, writes files, removes those that are no longer shipped, and records the new names', async () => {
    const host = {
      files: { [RECORD]: recordOf([file('compose.yaml'), file('old/file')]) },
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
    expect(steps.indexOf(write as Step)).toBeLessThan(steps.findIndex(({ name }) => name === 'prepare mounts'));
    expect(undo.map(({ name, ifBegan }) => ({ name, ifBegan }))).toEqual([
      { name: 'put files back', ifBegan: 'write files' },
      { name: 'put back plex:1', ifBegan: 'pull' },
      { name: 'tidy up', ifBegan: 'up' },
      { name: 'prepare mounts again', ifBegan: 'up' },
      { name: 'up again', ifBegan: 'up' },
      { name: 'wait until healthy again', ifBegan: 'up' },
      { name: 'images after undo', ifBegan: 'up' },
    ]);
  });

  it('keeps the new files next to their containers if a first rollout fails after "up"', async () => {
    const { undo } = await plan(ships, { folders: { [DIR]: [] } }, [file('compose.yaml')]);
    expect(undo).toEqual([expect.objectContaining({ do: 'restore', ifBegan: 'write files', unlessBegan: 'up' })]);
  });

  it.each(['.env', 'app/.env', 'db.env', '.env.production'])(
    'does not overwrite the host’s %s unless a rollout shipped it',
    async path => {
      const folder = path.includes('/') ? `${DIR}/app` : DIR;
      const folders = { [DIR]: ['compose.yaml'], [folder]: ['compose.yaml', path.split('/').at(-1) ?? ''] };
      expect(await codeOf(plan(ships, { folders }, [file(path)]))).toBe('env-file-not-ours');
      expect(await codeOf(plan(ships, { folders, files: { [RECORD]: recordOf([file(path)]) } }, [file(path)]))).toBe(
        'planned',
      );
      expect(await codeOf(plan(ships, {}, [file(path)]))).toBe('planned');
    },
  );

  it('is refused if the record of shipped files is unreadable', async () => {
    expect(await codeOf(plan(ships, { files: { [RECORD]: '{' } }, [file('a')]))).toBe('record-unreadable');
  });
});

describe('the plan of a scale', () => {
  it('changes one service and waits for its number of containers', async () => {
    const made = await plan(scale({ replicas: 0 }));
    expect(composeArgsOf(made)).toEqual(['up --detach --no-build --no-recreate --no-deps --scale plex=0 plex']);
    expect(made.steps.find(step => step.do === 'await-healthy')).toMatchObject({ replicas: { plex: 0 } });
  });
});
