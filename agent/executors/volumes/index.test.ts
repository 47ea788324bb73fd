import { describe, expect, it } from 'vitest';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, StartStep } from '../../plan/plan.ts';
import { composeSite, testExecutorContract } from '../exam.ts';
import type { Executor, HostSite, Intent, PlanContext } from '../executor.ts';
import { volumes } from './index.ts';

const site: HostSite = {
  stacksRoot: '/opt/stacks',
  memory: '/var/lib/chatops/stacks',
  docker: 'docker',
  verify: [],
  settle: 2_000,
  switchFoldersOf: () => [],
  compose: composeSite,
  proxmox: '',
  backups: {
    sources: ['/var/lib/docker/volumes', '/opt/stacks'],
    destinations: [{ path: '/mnt/backup', minFree: 1000 }],
    remotes: [],
    databases: [],
    records: '/var/lib/chatops/backups',
  },
};
const backup = (changes: object = {}): Intent =>
  ({
    action: 'backup',
    backup_type: 'docker_volumes',
    source: '/var/lib/docker/volumes/data/_data',
    destination: '/mnt/backup/data',
    ...changes,
  }) as Intent;
const context = (intent: Intent): PlanContext => ({
  document: { name: 'nightly', document: 1, documents: 1, intent },
  run: 'run-00001',
  at: '2026-11-21T06:00:00.123Z',
  site,
  files: [],
  configs: '/var/lib/chatops/runs/run-00001/compose-1',
  wantsDiff: false,
});
const FOLDER = '/mnt/backup/data/nightly';
const hostWith = (backups: string[] = []): HostReader => ({
  list: async folder => (folder === FOLDER ? backups.flatMap(name => [name, `${name}.json`]) : null),
  read: async () =>
    JSON.stringify({
      ...{
        kind: 'docker_volumes',
        name: 'nightly',
        run: 'run-00000',
        source: '/srv/data',
        at: '2026-11-20T06:00:00.000Z',
      },
      ...{ bytes: 5000, files: 7, sha256: 'a'.repeat(64) },
    }),
  ask: async () => ({ code: 1, stdout: '', stderr: '' }),
  render: async () => undefined,
  engine: async path =>
    path.includes('/plex/')
      ? {
          Id: 'p1',
          State: { Running: true, Paused: false },
          Mounts: [{ Type: 'volume', Source: '/var/lib/docker/volumes/plex/_data', Destination: '/config' }],
        }
      : path.startsWith('/containers/json')
        ? [
            { Id: 'a1', State: 'running', Labels: { 'com.docker.compose.service': 'app' } },
            { Id: 'b1', State: 'exited', Labels: { 'com.docker.compose.service': 'other' } },
          ]
        : null,
});
const plan = (intent: Intent, host: HostReader = hostWith()) =>
  (volumes as unknown as Executor).plan(intent, context(intent), host);
const copyOf = async (intent: Intent, host?: HostReader) =>
  (await plan(intent, host)).steps.find(({ name }) => name === 'copy') as StartStep;
async function codeOf(intent: Intent): Promise<string> {
  try {
    await plan(intent);
    return 'planned';
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
}

testExecutorContract(volumes as unknown as Executor, [
  { name: 'a first backup', intent: backup(), context: context(backup()), look: hostWith() },
  {
    name: 'a backup of a container that is stopped during the copy',
    intent: backup({ source: undefined, source_container: 'plex', source_path: '/config/db', consistency: 'stop' }),
    context: context(backup()),
    look: hostWith(['20261120T060000Z']),
  },
]);

describe('the plan of a backup of volumes', () => {
  it('checks, copies with links to the last backup, reads back, then prunes', async () => {
    const { steps } = await plan(backup({ keep: { daily: 7 } }), hostWith(['20261119T060000Z', '20261120T060000Z']));
    expect(steps.map(step => step.do)).toEqual([
      'check-target',
      'check-source',
      'start',
      'compare-copy',
      'seal',
      'prune',
    ]);
    const [target, source, copy, comparison, seal, prune] = steps;
    expect(target).toMatchObject({ path: '/mnt/backup', folder: FOLDER, needs: 6500 });
    expect(source).toMatchObject({ last: { bytes: 5000, files: 7 }, acceptShrink: false });
    expect((copy as StartStep).argv.slice(-4)).toEqual([
      '--outbuf=L',
      '--',
      '/var/lib/docker/volumes/data/_data/',
      `${FOLDER}/.20261121T060000.123Z.partial.run-00001/`,
    ]);
    expect((copy as StartStep).argv.join(' ')).toContain(`--link-dest ${FOLDER}/20261120T060000Z`);
    expect(comparison).toMatchObject({
      ...{ folder: FOLDER, copy: '.20261121T060000.123Z.partial.run-00001', since: '2026-11-21T06:00:00.123Z' },
      ...{ source: '/var/lib/docker/volumes/data/_data', owners: true },
    });
    expect(seal).toMatchObject({
      folder: FOLDER,
      as: '20261121T060000.123Z',
      partial: '.20261121T060000.123Z.partial.run-00001',
    });
    expect(prune).toMatchObject({ rules: { daily: 7 }, minKeep: 3 });
  });

  it.each<[string, object, string[], string]>([
    ['nothing about earlier backups if there is none', {}, [], ''],
    [
      'that the earlier backups are untouched if there are some',
      {},
      ['20261120T060000Z'],
      ' The earlier backups are untouched.',
    ],
    [
      'that a mirror may be incomplete',
      { method: 'mirror' },
      ['20261120T060000Z'],
      ' The mirror may be incomplete until a backup succeeds.',
    ],
  ])('says of a failed copy %s', async (_, changes, backups, claim) => {
    const { failure, reasons } = await copyOf(backup(changes), hostWith(backups));
    expect(failure).toEqual({ code: 'copy-failed', remedy: `Read the step’s output.${claim}` });
    for (const { remedy } of reasons ?? []) expect(remedy).toMatch(new RegExp(`[a-z_]\\.${claim}$`));
  });

  it('keeps days that have backups if the intent has only retention_days', async () => {
    const { steps } = await plan(backup({ retention_days: 14 }));
    expect(steps.at(-1)).toMatchObject({ do: 'prune', rules: { last: 1, daily: 14 } });
  });

  it('makes a mirror with one copy, which is never pruned', async () => {
    const { steps } = await plan(backup({ method: 'mirror' }));
    expect(steps.map(step => step.do)).toEqual(['check-target', 'check-source', 'start', 'compare-copy', 'seal']);
    expect((steps[2] as StartStep).argv).toContain('--delete-delay');
  });

  it('stops the named services that run, and starts only them again, also if the copy fails', async () => {
    const { steps, cleanup } = await plan(backup({ stack: 'web', stop_services: ['app'] }));
    expect(steps.map(({ name }) => name)).toEqual([
      'check the destination',
      'check the source',
      'stop',
      'copy',
      'compare the copy',
      'start',
      'read back',
      'prune',
    ]);
    for (const name of ['stop', 'start'])
      expect((steps.find(step => step.name === name) as StartStep).argv).toEqual(['docker', 'container', name, 'a1']);
    expect(cleanup).toMatchObject([
      { argv: ['docker', 'container', 'start', 'a1'], ifBegan: 'stop', unlessBegan: 'read back' },
      { do: 'clear', root: '/mnt/backup' },
    ]);
  });

  it('says which named services do not run, and fails for one that the stack does not have', async () => {
    const idle = await plan(backup({ stack: 'web', stop_services: ['app', 'other'] }));
    expect(idle.summary).toContain('Not stopped, because no container runs: other.');
    expect(await codeOf(backup({ stack: 'web', consistency: 'stop', stop_services: ['wbe'] }))).toBe('service-unknown');
  });

  it('finds the folder on the host of a path inside a container', async () => {
    const inside = { source: undefined, source_container: 'plex', source_path: '/config/Library' };
    expect((await copyOf(backup(inside))).argv.at(-2)).toBe('/var/lib/docker/volumes/plex/_data/Library/');
    expect(await codeOf(backup({ ...inside, source_path: '/etc' }))).toBe('container-path-unknown');
    expect(await codeOf(backup({ ...inside, source_container: 'nobody' }))).toBe('container-missing');
  });

  it('passes exclude patterns literally', async () => {
    const { argv } = await copyOf(backup({ exclude: ['!', '+ secret', 'cache/'] }));
    expect(argv.filter(word => word.startsWith('--filter'))).toEqual([
      '--filter=- !',
      '--filter=- + secret',
      '--filter=- cache/',
    ]);
    expect(await codeOf(backup({ exclude: ['a\nb'] }))).toBe('exclude-not-allowed');
  });

  it.each([
    '-e',
    '-eid',
    '--rsh=id',
    '--rsync-path=id',
    '-aHe',
    '--delete',
    '--files-from=/etc/shadow',
    '--log-file=/x',
    '--bwlimit=1;id',
    '--inplace',
    '-L',
  ])('refuses the rsync option %s', async option => {
    expect(await codeOf(backup({ options: [option] }))).toBe('option-not-allowed');
  });

  it('accepts allowed rsync options', async () => {
    expect((await copyOf(backup({ options: ['--checksum', '--bwlimit=500'], ownership: 'drop' }))).argv).toEqual(
      expect.arrayContaining(['--checksum', '--bwlimit=500', '--no-owner', '--no-group']),
    );
  });

  it.each(['/mnt/other', 'backup@nas:/srv', 'rsync://nas/x', '/mnt/backupx'])(
    'refuses the destination %s',
    async destination => {
      expect(await codeOf(backup({ destination }))).toBe('destination-not-allowed');
    },
  );
});
