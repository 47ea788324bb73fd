import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONFIGS, context, DIR, file, type Host, hostWith, rollout } from '../../../test/stand/compose-host.ts';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Release, RenderRequest } from '../../plan/plan.ts';
import { testExecutorContract } from '../exam.ts';
import type { Executor, Intent, ShippedFileRef } from '../executor.ts';
import { compose } from './index.ts';

const executor = compose as unknown as Executor;
const MEMORY = '/var/lib/chatops/stacks/stack-media';
const plex = { service: 'plex', reference: 'plex:1', image: 'sha256:aaa' };
const shipped: ShippedFileRef[] = [file('compose.yaml', 'a')];
const release = (run: string, more: Partial<Release> = {}): Release => ({
  runs: [run],
  at: '2026-11-20T06:00:00.000Z',
  images: [plex],
  files: null,
  config: { sha256: 'c'.repeat(64), profiles: ['old'] },
  ...more,
});
const hostOf = (releases: Release[], more: Host = {}) =>
  hostWith({
    containers: [plex],
    images: [plex.image],
    folders: { [DIR]: ['compose.yaml'], [`${MEMORY}/files`]: ['a', 'b', 'c'].map(name => name.repeat(64)) },
    ...more,
    files: { [`${MEMORY}/releases.json`]: JSON.stringify({ version: 1, releases }), ...more.files },
  });
const rollback: Intent = { action: 'rollback', stack: 'stack-media' } as Intent;
const strategy = (name: string, more: object) => rollout({ strategy: name, source_dir: 's', ...more });
const SHARED: Host = { config: { name: 'stack-media', services: { plex: { ports: [{ target: 80 }] } } } };
const green = { containers: [{ ...plex, project: 'stack-media-green' }] };

const cases: [string, Intent, HostReader][] = [
  ['a rollout of a stack that runs', rollout({ source_dir: 's' }), hostOf([release('run-0')])],
  ['a rollout that does not undo', rollout({ source_dir: 's', on_failure: 'stop' }), hostOf([release('run-0')])],
  ['a rollout after a start by hand', rollout({ source_dir: 's' }), hostOf([])],
  ['a rollout of a stack under its second name', rollout({ source_dir: 's' }), hostOf([release('run-0')], green)],
  ['a canary', strategy('canary', { service: 'plex' }), hostOf([release('run-0')])],
  [
    'blue-green by a file',
    strategy('blue-green', { switch: { file: 'x', text: 'y' } }),
    hostOf([release('run-0')], SHARED),
  ],
  ['blue-green by a port', strategy('blue-green', { switch: { service: 'plex' } }), hostOf([release('run-0')], SHARED)],
  ['a rollback', rollback, hostOf([release('run-0'), release('run-1')])],
  ['a scale', { action: 'scale', stack: 'stack-media', service: 'plex', replicas: 2 } as Intent, hostOf([])],
];

testExecutorContract(
  executor,
  cases.flatMap(([name, intent, look]) =>
    [false, true].map(wantsDiff => ({
      name: `${name}${wantsDiff ? ', compared' : ''}`,
      intent,
      context: context(intent, shipped, wantsDiff),
      look,
    })),
  ),
);

describe('the plans of every executor', () => {
  it('call compose in one place, and never to render', () => {
    const folder = join(import.meta.dirname, '..');
    const callers = globSync('**/*.ts', { cwd: folder })
      .filter(name => !/test\.ts$|exam\.ts$/.test(name))
      .map(name => ({ name, text: readFileSync(join(folder, name), 'utf8') }))
      .filter(({ text }) => /docker,\s*['"`]compose['"`]/.test(text));
    // The second one asks for the version.
    expect(callers.map(({ name }) => name).sort()).toEqual(['compose/compose-command.ts', 'compose/target.ts']);
    for (const { name, text } of callers) expect(text, name).not.toMatch(/['"`]config['"`]/);
  });
});

/** Plans, and returns the requests to render too. `refuse`: requests that the rules refuse. */
async function planWith(
  intent: Intent,
  host: HostReader,
  refuse: (request: RenderRequest) => boolean = () => false,
): Promise<{ plan: Plan; requests: RenderRequest[] }> {
  const requests: RenderRequest[] = [];
  const plan = await executor.plan(intent, context(intent, shipped), {
    ...host,
    render: async request => {
      requests.push(request);
      if (refuse(request)) throw new Failure('compose-not-allowed', 'It is privileged.', 'Remove it.');
      return host.render(request);
    },
  });
  return { plan, requests };
}
const isBefore = ({ as }: RenderRequest) => as.endsWith('/before.json');
const argvOf = ({ steps, undo }: Plan, name: string) =>
  [...steps, ...undo].flatMap(step => (step.do === 'start' && step.name === name ? [step.argv.join(' ')] : []))[0];

describe('a rollout', () => {
  it('renders with the shipped files in place, and the version before from its release', async () => {
    const { plan, requests } = await planWith(rollout({ source_dir: 's' }), hostOf([release('run-0')]));
    expect(requests).toEqual([
      {
        stack: 'stack-media',
        dir: DIR,
        compose: undefined,
        overlay: { [`${DIR}/compose.yaml`]: '/run/shipped/a' },
        as: `${CONFIGS}/next.json`,
        variants: {},
      },
      expect.objectContaining({
        overlay: {},
        stored: { file: `${MEMORY}/files/${'c'.repeat(64)}`, sha256: 'c'.repeat(64) },
        as: `${CONFIGS}/before.json`,
      }),
    ]);
    expect(argvOf(plan, 'up')).toContain(`--file ${CONFIGS}/next.json --env-file /dev/null --profile extra up`);
    expect(argvOf(plan, 'up again')).toContain(`--file ${CONFIGS}/before.json --env-file /dev/null --profile old up`);
  });

  it('renders the files that an older agent kept of the version before, without overrides that came later', async () => {
    const old: Release = {
      ...release('run-0', { files: [{ path: 'app.env', mode: 0o644, sha256: 'a'.repeat(64) }] }),
      compose: [{ path: `${DIR}/compose.yaml`, mode: 0o644, sha256: 'b'.repeat(64) }],
    };
    delete old.config;
    const { requests } = await planWith(rollout(), hostOf([old]));
    expect(requests.find(isBefore)?.overlay).toMatchObject({
      [`${DIR}/compose.yaml`]: `${MEMORY}/files/${'b'.repeat(64)}`,
      [`${DIR}/app.env`]: `${MEMORY}/files/${'a'.repeat(64)}`,
      [`${DIR}/compose.override.yaml`]: null,
    });
  });

  it('neither records nor brings back a version that is not allowed, and says so', async () => {
    const { plan } = await planWith(rollout({ source_dir: 's' }), hostOf([]), isBefore);
    expect(plan.oneWay).toBe('There is no version to bring back: It is privileged.');
    expect(plan.summary).toContain(plan.oneWay);
    expect(plan.steps.map(({ name }) => name)).not.toContain('remember what ran');
    expect(plan.undo.map(({ name, unlessBegan }) => ({ name, unlessBegan }))).toEqual([
      { name: 'put files back', unlessBegan: 'up' },
    ]);
    expect(plan.late).toEqual([]);
  });

  it.each(['canary', 'blue-green'])('is refused as %s if the version before could not be brought back', async name => {
    const intent = strategy(name, name === 'canary' ? { service: 'plex' } : { switch: { file: 'x', text: 'y' } });
    await expect(planWith(intent, hostOf([], SHARED), isBefore)).rejects.toMatchObject({ code: 'strategy-impossible' });
  });

  it('is refused as blue-green while a project with another name runs in the folder', async () => {
    const intent = strategy('blue-green', { switch: { file: 'x', text: 'y' } });
    const host = hostOf([], { ...SHARED, containers: [{ ...plex, project: 'other' }] });
    await expect(planWith(intent, host)).rejects.toMatchObject({
      code: 'strategy-impossible',
      message: expect.stringContaining('other'),
    });
  });
});

describe('a rollback', () => {
  it('is refused if today’s rules do not allow the release’s config', async () => {
    const host = hostOf([release('run-0'), release('run-1')]);
    await expect(planWith(rollback, host, one => one.stored !== undefined)).rejects.toMatchObject({
      code: 'compose-not-allowed',
    });
  });

  it('is refused if the release’s config is not kept', async () => {
    const host = hostOf([release('run-0', { config: { sha256: 'd'.repeat(64), profiles: [] } }), release('run-1')]);
    await expect(planWith(rollback, host)).rejects.toMatchObject({ code: 'release-incomplete' });
  });
});
