import { describe, expect, it } from 'vitest';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { type ContextChanges, createContext, failureCodeOf, testExecutorContract } from '../exam.ts';
import type { Executor, Intent } from '../executor.ts';
import { executors } from '../index.ts';

const site: ContextChanges['site'] = {
  backups: {
    sources: ['/srv', '/opt/stacks'],
    destinations: [{ path: '/mnt/backup', minFree: 1000 }],
    remotes: [{ target: 'rsync://nas/backup' }, { target: 'b@nas:/srv', ssh: { key_file: '/k', port: 2222 } }],
    databases: [{ server: 'db', stack: 'shop', user: 'keeper', password_file: '/etc/db' }],
    resticPassword: '/etc/restic',
  },
};
const FOLDER = '/mnt/backup/x/nightly';
const manifest = (kind: string, more: object = {}) =>
  JSON.stringify({
    kind,
    name: 'nightly',
    run: 'run-00000',
    at: '2026-11-20T06:00:00.000Z',
    bytes: 5000,
    files: 7,
    source: 'db:shop',
    sha256: 'a'.repeat(64),
    verified_at: '2026-11-20T06:01:00.000Z',
    image: 'sha256:1',
    file: 'a.db',
    database: 'shop',
    parts: ['com.plexapp.plugins.library.db'],
    ...more,
  });
const WORKING_DIR = 'com.docker.compose.project.working_dir';
const container = {
  Id: 'c1',
  Image: 'sha256:1',
  State: { Running: true, Paused: false },
  Config: {
    Env: ['POSTGRES_USER=app'],
    Labels: { 'com.docker.compose.project': 'shop', [WORKING_DIR]: '/opt/stacks/shop' },
  },
  Mounts: [{ Type: 'bind', Source: '/srv/plex', Destination: '/config' }],
};

/** A host with one earlier backup of that kind, and one container. */
const hostWith = (kind: string, more?: object): HostReader => ({
  list: async folder => (folder === FOLDER ? ['one', 'one.json'] : folder === '/srv' ? ['a.db'] : null),
  read: async file => (file.endsWith('.json') ? manifest(kind, more) : null),
  ask: async argv => ({ code: 0, stdout: argv.includes('ls') ? 'com.plexapp.plugins.library.db\n' : '', stderr: '' }),
  render: async () => undefined,
  engine: async path => (path.startsWith('/containers/json') ? [] : container),
});
const context = (intent: Intent) => createContext(intent, { site });
const executorOf = (intent: Intent) => executors.find(one => one.supports(intent)) as Executor;
const plan = (intent: Intent, host: HostReader): Promise<Plan> =>
  executorOf(intent).plan(intent, context(intent), host);
const starts = ({ steps, undo, cleanup }: Plan) =>
  [...steps, ...undo, ...cleanup].filter((step): step is StartStep => step.do === 'start');
const from = '/mnt/backup/x';
const backup = (of: object) => ({ action: 'backup', destination: from, ...of }) as Intent;
const restore = (kind: string, to: object) =>
  ({ action: 'restore', of: { kind, name: 'nightly' }, from, confirm_overwrite: true, ...to }) as Intent;
const drill = (kind: string) => ({ action: 'drill', of: { kind, name: 'nightly' }, from }) as Intent;

const INTENTS: [string, string, Intent][] = [
  ['postgres', 'a backup', backup({ database_type: 'postgres', source_container: 'pg', database: 'shop' })],
  [
    'postgres',
    'a backup with a drill',
    backup({ database_type: 'postgres', source_container: 'pg', database: 'shop', verify_level: 'drill' }),
  ],
  [
    'postgres',
    'a backup of a server on the host',
    backup({ database_type: 'postgres', source: '/srv', database: 'shop' }),
  ],
  ['postgres', 'a restore', restore('postgres', { to_container: 'pg' })],
  ['postgres', 'a drill', drill('postgres')],
  [
    'mysql',
    'a backup',
    backup({ database_type: 'mariadb', source_container: 'db', database: 'shop', verify_level: 'drill' }),
  ],
  ['mysql', 'a restore', restore('mysql', { to_container: 'db' })],
  ['mysql', 'a drill', drill('mysql')],
  ['plex', 'a backup', backup({ database_type: 'plex', source_container: 'plex' })],
  ['plex', 'a backup while it is stopped', backup({ database_type: 'plex', source_container: 'plex', method: 'stop' })],
  ['plex', 'a restore', restore('plex', { to_container: 'plex' })],
  ['plex', 'a drill', drill('plex')],
  ['sqlite', 'a restore', restore('sqlite', { to: '/srv/a.db' })],
  ['sqlite', 'a drill', drill('sqlite')],
  [
    'docker_volumes',
    'a backup by restic',
    backup({ backup_type: 'docker_volumes', method: 'restic', source: '/srv/www' }),
  ],
  [
    'docker_volumes',
    'a backup to an rsync daemon',
    backup({ backup_type: 'docker_volumes', source: '/srv/www', destination: 'rsync://nas/backup/x' }),
  ],
  [
    'docker_volumes',
    'a backup over ssh',
    backup({ backup_type: 'docker_volumes', source: '/srv/www', destination: 'b@nas:/srv' }),
  ],
  ['docker_volumes', 'a drill', drill('docker_volumes')],
];

for (const [kind, name, intent] of INTENTS) {
  testExecutorContract(executorOf(intent), [
    { name: `${name} (${kind})`, intent, context: context(intent), look: hostWith(kind) },
  ]);
}

describe('plans of databases', () => {
  it.each(INTENTS)('of %s, %s: hold no secret and start no shell', async (kind, _, intent) => {
    const made = await plan(intent, hostWith(kind));
    for (const { argv, secrets = {} } of starts(made)) {
      expect(['sh', 'bash', '/bin/sh']).not.toContain(argv[0]);
      expect(argv).not.toContain('sh');
      for (const secret of Object.values(secrets))
        expect(Object.keys(secret)).toSatisfy((keys: string[]) => keys.includes('file') || keys.includes('variables'));
    }
  });

  it('end a program in a container after its timeout, and mark it so that the agent finds it', async () => {
    const [dump] = starts(await plan(INTENTS[0]?.[2] as Intent, hostWith('postgres')));
    expect(dump?.argv.slice(0, 12)).toEqual([
      'docker',
      'exec',
      '--env',
      'CHATOPS_STEP',
      '--env',
      'PGPASSWORD',
      'c1',
      'timeout',
      '-k',
      '30',
      '21600',
      'pg_dump',
    ]);
    expect(dump?.argv).toContain('app');
    expect(dump?.argv.slice(-2)).toEqual(['--', 'shop']);
  });

  it('take user and password from agent.yaml if it names the server', async () => {
    const [dump] = starts(
      await plan(backup({ database_type: 'mysql', source_container: 'db', database: 'shop' }), hostWith('mysql')),
    );
    expect(dump?.secrets).toEqual({ MYSQL_PWD: { file: '/etc/db' } });
    expect(dump?.argv.slice(dump.argv.indexOf('--user'), dump.argv.indexOf('--user') + 2)).toEqual([
      '--user',
      'keeper',
    ]);
  });

  it.each([
    ['of another stack', { 'com.docker.compose.project': 'other', [WORKING_DIR]: '/opt/stacks/other' }],
    ['of a project elsewhere', { 'com.docker.compose.project': 'shop', [WORKING_DIR]: '/srv/shop' }],
    ['of a folder below', { 'com.docker.compose.project': 'shop', [WORKING_DIR]: '/opt/stacks/shop/x' }],
    ['without compose', {}],
  ])('keep the password of agent.yaml from a container %s that bears the name', async (_, Labels) => {
    const host = { ...hostWith('mysql'), engine: async () => ({ ...container, Config: { Env: [], Labels } }) };
    const intent = backup({ database_type: 'mysql', source_container: 'db', database: 'shop' });
    expect(await failureCodeOf(plan(intent, host))).toBe('database-stack');
    const outside = createContext(intent, {
      site: { backups: { ...site?.backups, databases: [{ server: 'db', stack: false, password_file: '/etc/db' }] } },
    });
    const made = executorOf(intent).plan(intent, outside, host);
    expect(await failureCodeOf(made)).toBe('com.docker.compose.project' in Labels ? 'database-stack' : 'planned');
  });

  it.each([
    ['a drill of a backup whose server ran on the host itself', drill('postgres'), { image: undefined }, 'image-gone'],
    [
      'a mirror on another host',
      backup({ backup_type: 'docker_volumes', method: 'mirror', source: '/srv', destination: 'b@nas:/srv' }),
      {},
      'method-unsupported',
    ],
    [
      'a target with ".."',
      backup({ backup_type: 'docker_volumes', source: '/srv', destination: 'b@nas:/srv/../etc' }),
      {},
      'destination-not-allowed',
    ],
    [
      'a pattern that restic would read as its opposite',
      backup({ backup_type: 'docker_volumes', method: 'restic', source: '/srv', exclude: ['!x'] }),
      {},
      'exclude-not-allowed',
    ],
    [
      'a restore of an unknown backup',
      restore('postgres', { to_container: 'pg', at: 'nowhere1' }),
      {},
      'backup-unknown',
    ],
    [
      'a restore from a backup of another kind',
      restore('mysql', { to_container: 'db' }),
      { kind: 'postgres' },
      'backup-unknown',
    ],
    [
      'a restore that does not confirm the overwrite',
      { ...restore('plex', { to_container: 'plex' }), confirm_overwrite: false } as Intent,
      {},
      'overwrite-unconfirmed',
    ],
  ])('refuse %s', async (_, intent, more, code) => {
    const kind =
      'of' in intent && typeof intent.of === 'object' && 'kind' in intent.of ? intent.of.kind : 'docker_volumes';
    expect(await failureCodeOf(plan(intent, hostWith(kind, more)))).toBe(code);
  });
});
