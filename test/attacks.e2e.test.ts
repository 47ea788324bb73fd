import { globSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Config } from '../agent/config/load.ts';
import { siteOf } from '../agent/config/site.ts';
import { executors } from '../agent/executors/index.ts';
import { DockerEngine } from '../agent/outbound/docker.ts';
import { Failure } from '../agent/plan/failure.ts';
import type { HttpStep, Plan } from '../agent/plan/plan.ts';
import { runProbe } from '../agent/steps/probe.ts';
import { blindHostReader } from '../agent/system/host-reader.ts';
import { Intent } from '../intents/intent.ts';
import { loadIntents } from '../intents/load.ts';
import { InvalidIntents } from '../intents/problem.ts';
import { ask, keys, rollout, url, withAgent } from './stand/guarded.ts';
import { Client, command } from './stand/signer.ts';

withAgent();

const EXAMPLES: Intent[] = [
  ...loadIntents(globSync('intents/examples/*.yaml').map(file => ({ file, text: readFileSync(file, 'utf8') }))).map(
    ({ intent }) => intent,
  ),
  ...[
    {
      action: 'rollback',
      stack: 'media',
      to: 'aaaaaaaa',
      verify: { http: { url: 'http://127.0.0.1/', body: 'ok' }, settle: '1s' },
    },
    {
      action: 'rollout',
      stack: 'media',
      service: 'web',
      compose: 'compose.yaml',
      source_dir: 'stacks/media',
      needs: ['x'],
    },
    {
      action: 'backup',
      backup_type: 'docker_volumes',
      source: '/srv/x',
      destination: '/mnt/backup',
      exclude: ['*.tmp'],
      options: ['--checksum'],
      notes: 'a note',
      stack: 'media',
      stop_services: ['web'],
    },
    { action: 'backup', backup_type: 'docker_volumes', source: '/srv/x', destination: 'rsync://nas/backup' },
    {
      action: 'backup',
      backup_type: 'docker_volumes',
      source_container: 'plex',
      source_path: '/config',
      destination: '/mnt/backup',
      method: 'restic',
    },
    { action: 'restore', of: 'x', from: '/mnt/backup', to: '/srv/x', at: 'latest', confirm_overwrite: true },
    {
      action: 'restore',
      of: { kind: 'postgres', name: 'app' },
      from: '/mnt/backup',
      to_container: 'db',
      database: 'app',
    },
    { action: 'drill', of: 'x', from: '/mnt/backup' },
  ].flatMap(value => Intent.safeParse(value).data ?? []),
];
const HOSTILE = [
  '--rsh=sh',
  '-e',
  '--',
  '-oProxyCommand=id',
  '$(id)',
  '`id`',
  ';id',
  'x\nid',
  'x\0',
  '../../../etc',
  '@evil',
  '--compose-file=/x',
  '-',
  "x' OR '1'='1",
];
const site = siteOf(
  Config.parse({
    agent: 'whitebox',
    backups: {
      sources: ['/srv', '/'],
      destinations: [{ path: '/mnt' }, { path: '/' }],
      remotes: [{ target: 'rsync://nas/backup' }],
      restic: { password_file: '/etc/chatops/restic' },
    },
    trust: [{ name: 'x', key: keys.public, repository: 'o/r', allow: [{ actions: ['rollout'], stacks: ['*'] }] }],
  }),
);

/** Returns the path of keys to each text in a value. */
function textsIn(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value === 'string') return [path];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) =>
    textsIn(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}

function withText(value: unknown, path: (string | number)[], text: string): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return text;
  const copy = structuredClone(value) as Record<string | number, unknown>;
  copy[key] = withText(copy[key], rest, text);
  return copy;
}

async function planOf(intent: Intent): Promise<Plan | undefined> {
  const executor = executors.find(candidate => candidate.supports(intent));
  const document = { name: 'x', document: 1, documents: 1, intent };
  try {
    return await executor?.plan(
      intent,
      {
        document,
        run: 'aaaaaaaa',
        at: '2026-11-21T10:00:00.000Z',
        site,
        files: [],
        configs: '/runs/aaaaaaaa',
        wantsDiff: false,
      },
      blindHostReader,
    );
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

function wordsOf(plan: Plan | undefined): Set<string> {
  const steps = plan ? [...plan.steps, ...plan.undo, ...plan.cleanup] : [];
  return new Set(steps.flatMap(step => ('argv' in step ? step.argv : [])));
}

/** Returns the arguments that would make the hostile text an option or a line of a shell. */
function misled(plan: Plan, hostile: string): string[] {
  return [...plan.steps, ...plan.undo, ...plan.cleanup].flatMap(step => {
    if (!('argv' in step)) return [];
    const { argv } = step;
    const end = argv.indexOf('--');
    return argv.filter(
      (argument, index) =>
        index > 0 &&
        ((hostile.startsWith('-') &&
          (hostile === '-' ? argument === hostile : argument.startsWith(hostile)) &&
          hostile !== '--' &&
          (end < 0 || index < end)) ||
          (argv[index - 1] === '-c' && argument.includes(hostile) && hostile.length > 2)),
    );
  });
}

describe('an intent with hostile texts', () => {
  it('never turns a hostile text of any field into an option or a line of a shell', async () => {
    let [tried, planned] = [0, 0];
    for (const example of EXAMPLES) {
      // A program may read its input as "-", whatever the intent says.
      const usual = wordsOf(await planOf(example));
      for (const path of textsIn(example)) {
        for (const hostile of HOSTILE) {
          tried++;
          const read = Intent.safeParse(withText(example, path, hostile));
          const plan = read.success ? await planOf(read.data) : undefined;
          if (!plan) continue;
          planned++;
          expect(
            misled(plan, hostile).filter(word => !usual.has(word)),
            `${path.join('.')} = ${JSON.stringify(hostile)}`,
          ).toEqual([]);
        }
      }
    }
    expect(EXAMPLES.length).toBeGreaterThan(14);
    // Most of them are refused. Free texts are accepted, and must not become an option or a shell line.
    expect(tried).toBeGreaterThan(700);
    expect(planned).toBeGreaterThan(20);
  });

  it('the check finds a hostile option and a hostile shell line in a plan', () => {
    const start = { do: 'start', name: 'x', timeout: 1, failure: { code: 'x', remedy: 'x' } } as const;
    const plan = (argv: [string, ...string[]]) => ({
      title: '',
      summary: '',
      changes: [],
      steps: [{ ...start, argv }],
      undo: [],
      cleanup: [],
    });
    expect(misled(plan(['rsync', '--rsh=sh', 'x']), '--rsh=sh')).toHaveLength(1);
    expect(misled(plan(['rsync', '--', '--rsh=sh']), '--rsh=sh')).toHaveLength(0);
    expect(misled(plan(['sh', '-c', 'echo $(id)']), '$(id)')).toHaveLength(1);
  });

  it.each([
    [
      'an alias bomb',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
        .split('')
        .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefg'[index]}`).join(',')}]`)
        .join('\n')}\naction: rollout\nstack: x\n`,
    ],
    ['deep nesting', `action: rollout\nstack: ${'['.repeat(50_000)}`],
    ['deep mappings', `action: ${'{a: '.repeat(20_000)}`],
    ['a repeated key', 'action: rollout\nstack: a\nstack: b\n'],
    ['a merge key', 'x: &x {stack: a}\naction: rollout\n<<: *x\n'],
    ['a tag of a programming language', 'action: rollout\nstack: !!js/function "function () {}"\n'],
    ['a prototype', 'action: rollout\nstack: a\n__proto__: {polluted: true}\n'],
    ['a constructor', 'action: rollout\nstack: a\nconstructor: {prototype: {polluted: true}}\n'],
    ['a megabyte', `action: rollout\nstack: a\nnotes: ${'x'.repeat(1024 * 1024)}\n`],
  ])('refuses an intent file within two seconds: %s', (_, text) => {
    const began = performance.now();
    expect(() => loadIntents([{ file: 'x.yaml', text }])).toThrow(InvalidIntents);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});

describe('a hostile connection', () => {
  const send = async (text: string) => {
    const client = new Client(url());
    await client.frame('hello');
    client.socket.send(text);
    const answer = await client.answer();
    await client.end();
    return answer;
  };

  it('is refused for a command whose signature was removed', async () => {
    const client = new Client(url());
    const { frame } = await client.offer(command([rollout()]), keys.secret);
    client.socket.send(JSON.stringify({ ...frame, signatures: [] }));
    expect(await client.answer()).toBe('signature-invalid');
    expect(await send(JSON.stringify({ ...frame, signatures: [], oidc: 'x' }))).toBe('signature-invalid');
  });

  it('pollutes no prototype through a frame or a command', async () => {
    expect(await send('{"__proto__":{"type":"offer"},"type":"offer"}')).toBe('frame-malformed');
    const body = JSON.stringify(command([rollout()])).replace(
      '"params":{}',
      '"params":{"__proto__":{"polluted":true}}',
    );
    expect(await ask(JSON.parse(body))).toMatch(/accepted|command-malformed/);
    expect(await ask({ ...command([rollout()]), constructor: { prototype: { polluted: true } } })).toBe(
      'command-malformed',
    );
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('gets no compression, which would hide a large frame in a small one', async () => {
    const client = new Client(url(), { perMessageDeflate: true });
    await client.frame('hello');
    expect(client.socket.extensions).toBe('');
    await client.end();
  });

  it('is closed when it sends thousands of fragments', async () => {
    const client = new Client(url());
    await client.frame('hello');
    for (let n = 0; n < 1_000 && client.closed === undefined; n++) client.socket.send('x', { fin: false });
    expect(await client.answer()).toMatch(/closed 10(06|08|09)/);
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('accepted');
  });
});

describe('"verify" as an attack on the network', () => {
  let server: Server;
  beforeAll(async () => {
    server = createServer((_, response) => {
      const fillBuffer = () => {
        while (response.write('x'.repeat(65_536)));
      };
      response.on('drain', fillBuffer);
      fillBuffer();
    }).listen(0, '127.0.0.1');
    await new Promise(done => server.once('listening', done));
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  const verify = async (path: string, changes: Partial<HttpStep> = {}) => {
    const step: HttpStep = {
      ...{ do: 'http', name: 'answers', url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}` },
      ...{
        status: [200],
        timeout: 5_000,
        retries: 0,
        pause: 10,
        allow: ['127.0.0.1/32'],
        project: { dir: '/x', files: [], docker: 'docker' } as never,
      },
      ...changes,
    };
    const probe = runProbe(step, {
      engine: new DockerEngine('/nonexistent.sock'),
      signal: new AbortController().signal,
      circuits: undefined,
    });
    let next = await probe.next();
    while (!next.done) next = await probe.next();
    return next.value;
  };

  it('stops reading an endless answer', async () => {
    const before = process.memoryUsage().rss;
    expect((await verify('/endless')).outcome).toBe('succeeded');
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);
  });

  it.each([
    'http://127.0.0.2/',
    'http://169.254.169.254/latest/meta-data',
    'http://[::ffff:127.0.0.2]/',
    'http://0x7f000002/',
    'http://2130706434/',
    'http://127.2/',
  ])('refuses a request to an address that is not allowed: %s', async target => {
    expect(await verify('', { url: target })).toMatchObject({ outcome: 'failed', code: 'verify-address-not-allowed' });
  });
});
