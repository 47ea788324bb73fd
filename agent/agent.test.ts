import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Intent } from '../intents/intent.ts';
import type { Deployment, ShippedFile } from '../protocol/command.ts';
import { generateKey } from '../protocol/keys.ts';
import { Client, command, LABELLED } from '../test/stand/signer.ts';
import { type Agent, startAgent } from './main.ts';

const keys = generateKey();
const second = generateKey();
const stranger = generateKey();
const neighbour = generateKey();
const dir = mkdtempSync(join(tmpdir(), 'chatops-agent-'));
const stacks = join(dir, 'stacks');
const file = join(dir, 'agent.yaml');
const said: string[] = [];
let agent: Agent;

function configure(changes: object = {}): void {
  const config = {
    agent: 'whitebox',
    listen: '127.0.0.1:0',
    state_dir: join(dir, 'state'),
    rate_limit: { commands: 1000, per: '1m' },
    stacks: { root: stacks },
    docker: { socket: join(dir, 'no-docker.sock') },
    trust: [
      {
        name: 'homelab',
        key: [keys.public, second.public],
        repository: 'org/homelab',
        repository_id: '7001',
        allow: [
          {
            actions: ['rollout', 'scale'],
            stacks: ['stack-*'],
            require_labels: ['approved-by-gemini'],
            without_approval: ['workflow_dispatch'],
          },
          { actions: ['backup'], stacks: ['stack-*'] },
          { actions: ['scale'], stacks: ['one'], services: ['web*'] },
        ],
      },
      {
        name: 'neighbour',
        key: neighbour.public,
        repository: 'org/homelab',
        allow: [{ actions: ['rollout'], stacks: ['stack-*'] }],
      },
    ],
    ...changes,
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
}

beforeAll(async () => {
  mkdirSync(join(stacks, 'stack-web'), { recursive: true });
  mkdirSync(join(stacks, 'one'));
  mkdirSync(join(dir, 'outside'));
  symlinkSync(join(dir, 'outside'), join(stacks, 'stack-link'));
  symlinkSync('/etc/passwd', join(stacks, 'stack-web', 'leak.yml'));
  configure();
  agent = await startAgent(file, line => said.push(line));
});
afterAll(async () => {
  await agent.stop();
  rmSync(dir, { recursive: true });
});

const url = () => `ws://127.0.0.1:${agent.port}`;
const rollout = (changes: object = {}): Intent => ({ action: 'rollout', stack: 'stack-web', ...changes }) as Intent;
/** Sends what is signed as said, and returns the answer's code. */
async function ask(body: object, secret = keys.secret): Promise<string> {
  const client = new Client(url());
  await client.send(body, secret);
  const answer = await client.answer();
  await client.end();
  return answer;
}
const shipped = (path: string, changes: Partial<ShippedFile> = {}): ShippedFile => {
  const content = Buffer.from('services: {}\n');
  return {
    stack: 'stack-web',
    path,
    mode: 0o644,
    sha256: createHash('sha256').update(content).digest('hex'),
    content: content.toString('base64'),
    ...changes,
  };
};
const ships = (files: ShippedFile[]) => command([rollout({ source_dir: 'stacks/web' })], { files, dry_run: true });
const audit = () =>
  readFileSync(join(dir, 'state', 'audit.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
const metrics = async () => (await fetch(`http://127.0.0.1:${agent.port}/metrics`)).text();

describe('a command that is allowed', () => {
  it('is accepted with each of the keys, and has a run', async () => {
    for (const { secret } of [keys, second])
      expect(await ask(command([rollout()], { dry_run: true }), secret)).toBe('accepted');
  });

  it('needs no approval where the host says so for its event', async () => {
    const dispatched = command([rollout({ label_required: 'x' })], { approval: null });
    dispatched.origin = { ...dispatched.origin, event: 'workflow_dispatch' };
    expect(await ask(dispatched)).toBe('accepted');
  });

  it('sent twice with the same content joins its run; with other content it is refused', async () => {
    const one = command([rollout()], { dry_run: true });
    expect(await ask(one)).toBe('accepted');
    const client = new Client(url());
    await client.send(one, keys.secret);
    expect(await client.frame('accepted')).toMatchObject({ run: one.id, joined: true });
    expect((await client.receipt()).outcome).toBe('planned');
    expect(await ask({ ...one, intents: command([rollout({ service: 'other' })]).intents })).toBe('id-reused');
    expect(await ask(one, neighbour.secret)).toBe('id-reused');
  });
});

describe('the guard refuses', () => {
  const early = { ...LABELLED, labels: [{ ...LABELLED.labels[0], after_last_push: false }] } as Deployment['approval'];
  const byTriage = { ...LABELLED, labels: [{ ...LABELLED.labels[0], permission: 'triage' }] } as Deployment['approval'];
  const bare = { ...LABELLED, labels: [] };
  it.each<[string, () => object, string]>([
    ['another audience', () => command([rollout()], { agent: 'blackbox' }), 'audience-mismatch'],
    [
      'another repository',
      () => ({ ...command([rollout()]), origin: { ...command([]).origin, repository: 'org/other' } }),
      'repository-not-allowed',
    ],
    [
      'a repository that took an old name',
      () => ({ ...command([rollout()]), origin: { ...command([]).origin, repository_id: '9' } }),
      'repository-not-allowed',
    ],
    [
      'an action that no rule names for the stack',
      () => command([{ action: 'rollout', stack: 'one' }]),
      'action-not-allowed',
    ],
    [
      'a service outside of the rule',
      () => command([{ action: 'scale', stack: 'one', service: 'db', replicas: 1 }]),
      'action-not-allowed',
    ],
    ['a stack that no rule names', () => command([rollout({ stack: 'vault' })]), 'stack-not-allowed'],
    [
      'a second document that is not allowed',
      () => command([rollout(), rollout({ stack: 'vault' })]),
      'stack-not-allowed',
    ],
    [
      'an action that comes later',
      () => command([{ action: 'backup', backup_type: 'vm_proxmox', vm_id: 101, storage: 's', stack: 'stack-web' }]),
      'action-unsupported',
    ],
    ['no approval', () => command([rollout()], { approval: null }), 'approval-missing'],
    ['no label', () => command([rollout()], { approval: bare }), 'label-missing'],
    ['not the label of the intent', () => command([rollout({ label_required: 'reviewed' })]), 'label-missing'],
    ['an early label', () => command([rollout()], { approval: early }), 'label-early'],
    [
      'a label of somebody who may not write',
      () => command([rollout()], { approval: byTriage }),
      'label-by-unauthorized',
    ],
    [
      'another pull request of the push without the label',
      () => command([rollout()], { approval: { ...LABELLED, with: [bare] } }),
      'label-missing',
    ],
    ['a stack whose folder is missing', () => command([rollout({ stack: 'stack-none' })]), 'stack-unknown'],
    ['a stack that is a link to elsewhere', () => command([rollout({ stack: 'stack-link' })]), 'path-outside'],
    ['a compose file that climbs', () => command([rollout({ compose: '/opt/../etc/passwd' })]), 'command-malformed'],
    ['a compose file outside of the stack', () => command([rollout({ compose: '/etc/passwd' })]), 'path-outside'],
    [
      'a compose file in another stack',
      () => command([rollout({ compose: join(stacks, 'one', 'compose.yaml') })]),
      'path-outside',
    ],
    ['a compose file that is a link to elsewhere', () => command([rollout({ compose: 'leak.yml' })]), 'path-outside'],
    ['a shipped file that climbs', () => ships([shipped('../x')]), 'file-not-allowed'],
    ['a shipped file with an absolute path', () => ships([shipped('/etc/cron.d/x')]), 'file-not-allowed'],
    ['a shipped file with a NUL', () => ships([shipped('a\0b')]), 'file-not-allowed'],
    ['a shipped file of git', () => ships([shipped('a/.git/config')]), 'file-not-allowed'],
    [
      'a shipped file with a wrong checksum',
      () => ships([shipped('a', { sha256: '0'.repeat(64) })]),
      'file-not-allowed',
    ],
    ['a shipped file twice', () => ships([shipped('a'), shipped('a')]), 'file-not-allowed'],
    ['a shipped file of another stack', () => ships([shipped('a', { stack: 'one' })]), 'file-not-allowed'],
    ['files without source_dir', () => command([rollout()], { files: [shipped('a')] }), 'file-not-allowed'],
    ['a set-uid file', () => ships([shipped('a', { mode: 0o4755 as 0o755 })]), 'command-malformed'],
    ['an unknown field', () => ({ ...command([rollout()]), sudo: true }), 'command-malformed'],
    ['an unknown field of an intent', () => command([rollout({ privileged: true })]), 'command-malformed'],
    ['an id that is a path', () => command([rollout()], { id: '../../../etc/x' }), 'command-malformed'],
    ['an option in place of a service', () => command([rollout({ service: '--force' })]), 'command-malformed'],
    ['too many intents', () => command(Array.from({ length: 101 }, () => rollout())), 'command-malformed'],
    ['a cancel', () => ({ ...follow(randomUUID()), type: 'cancel', after: undefined }), 'run-unknown'],
    ['to follow an unknown run', () => follow(randomUUID()), 'run-unknown'],
  ])('%s', async (_, body, code) => {
    expect(await ask(body())).toBe(code);
  });

  it('in its order: what is wrong in two ways gets the earlier code', async () => {
    const everything = {
      ...command([rollout({ stack: 'vault', compose: '/etc/passwd' })], { approval: null }),
      agent: 'blackbox',
    };
    expect(await ask(everything, stranger.secret)).toBe('signature-invalid');
    expect(await ask({ ...everything, challenge: 'AAAA' })).toBe('challenge-stale');
    expect(await ask(everything)).toBe('audience-mismatch');
    const here = { ...everything, agent: 'whitebox' };
    expect(await ask({ ...here, origin: { ...here.origin, repository: 'org/x' } })).toBe('repository-not-allowed');
    expect(await ask(here)).toBe('stack-not-allowed');
    expect(await ask(command([rollout({ compose: '/etc/passwd' })], { approval: null }))).toBe('approval-missing');
  });

  it('a plan of what is not allowed, though a plan needs no label', async () => {
    expect(await ask(command([rollout({ stack: 'vault' })], { type: 'plan', approval: null }))).toBe(
      'stack-not-allowed',
    );
    expect(await ask(command([rollout()], { type: 'plan', approval: null }))).toBe('accepted');
  });

  it('to show a run to another entry’s key', async () => {
    const one = command([rollout()], { dry_run: true });
    await ask(one);
    expect(await ask(follow(one.id))).toBe('accepted');
    expect(await ask(follow(one.id), neighbour.secret)).toBe('not-your-run');
    expect(await ask({ ...follow(one.id), type: 'cancel', after: undefined })).toBe('cancel-unsupported');
  });
});

function follow(run: string): object {
  const { approval, intents, files, params, dry_run, ...rest } = command([]);
  return { ...rest, type: 'follow', id: randomUUID(), run, after: 0 };
}

describe('the wire refuses', () => {
  it('a key that nobody trusts, and a payload that was changed', async () => {
    expect(await ask(command([rollout()]), stranger.secret)).toBe('signature-invalid');
    const client = new Client(url());
    const frame = JSON.parse(await client.signed(command([rollout()]), keys.secret));
    const payload = JSON.parse(Buffer.from(frame.payload, 'base64').toString());
    payload.intents[0].intent.stack = 'stack-other';
    client.socket.send(JSON.stringify({ ...frame, payload: Buffer.from(JSON.stringify(payload)).toString('base64') }));
    expect(await client.answer()).toBe('signature-invalid');
  });

  it('a frame that was recorded and is sent again, here or on a second connection', async () => {
    const first = new Client(url());
    const frame = await first.signed(command([rollout()], { dry_run: true }), keys.secret);
    first.socket.send(frame);
    expect(await first.answer()).toBe('accepted');
    const replay = new Client(url());
    await replay.frame('hello');
    replay.socket.send(frame);
    expect(await replay.answer()).toBe('challenge-stale');
  });

  it('a receipt or a hello in place of a command', async () => {
    const client = new Client(url());
    const hello = await client.frame('hello');
    client.socket.send(JSON.stringify({ ...hello, type: 'signed' }));
    expect(await client.answer()).toBe('signature-invalid');
  });

  it.each<[string, (client: Client) => void, string]>([
    ['garbage', client => client.socket.send('{"type":'), 'frame-malformed'],
    ['JSON of another shape', client => client.socket.send('[1,2,3]'), 'frame-malformed'],
    ['deep JSON', client => client.socket.send(`${'['.repeat(100_000)}${']'.repeat(100_000)}`), 'frame-malformed'],
    [
      'an unknown key in the frame',
      client =>
        client.socket.send(
          '{"type":"signed","payloadType":"a","payload":"","signatures":[{"sig":""}],"__proto__":{"a":1},"b":1}',
        ),
      'frame-malformed',
    ],
    ['a binary frame', client => client.socket.send(Buffer.from([0, 1, 2])), 'frame-malformed'],
    ['16 MiB and a byte', client => client.socket.send('x'.repeat(16 * 1024 * 1024 + 1)), 'closed 1009'],
  ])('%s', async (_, send, answer) => {
    const client = new Client(url());
    await client.frame('hello');
    send(client);
    expect(await client.answer()).toBe(answer);
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('accepted');
  });

  it('who comes with an Origin, to another path or without the subprotocol', async () => {
    for (const [client, status] of [
      [new Client(url(), { headers: { Origin: 'https://example.org' } }), 403],
      [new Client(url(), {}, undefined, '/v2'), 404],
      [new Client(url(), {}, 'chat'), 400],
    ] as const) {
      expect(await client.frame('hello')).toBeUndefined();
      expect(client.status).toBe(status);
      expect(JSON.parse(client.body).remedy).toBeTruthy();
    }
  });

  it('silence', { timeout: 20_000 }, async () => {
    const client = new Client(url());
    await client.frame('hello');
    expect(await client.answer()).toBe('hello-timeout');
  });

  it('more connections than an address may make, with the time to wait; but still tells its health', async () => {
    configure({ rate_limit: { commands: 2, per: '1m' } });
    agent.reload();
    const codes: (number | undefined)[] = [];
    for (let n = 0; n < 3; n++) {
      const client = new Client(url());
      await client.frame('hello');
      codes.push(client.status);
      if (client.status === 429) expect(Number(client.headers['retry-after'])).toBeGreaterThan(0);
      await client.end();
    }
    expect(codes).toEqual([undefined, undefined, 429]);
    for (let n = 0; n < 5; n++) expect((await fetch(`http://127.0.0.1:${agent.port}/healthz`)).status).toBe(200);
    configure();
    agent.reload();
  });

  it('addresses that are not allowed, at every door', async () => {
    configure({ allow_from: ['100.64.0.0/10'] });
    agent.reload();
    const client = new Client(url());
    await client.frame('hello');
    expect(client.status).toBe(403);
    expect((await fetch(`http://127.0.0.1:${agent.port}/metrics`)).status).toBe(403);
    configure();
    agent.reload();
  });

  it('requests that only drip in', { timeout: 30_000 }, async () => {
    const began = Date.now();
    const asked = request({
      port: agent.port,
      host: '127.0.0.1',
      path: '/healthz',
      headers: { 'Content-Length': '10' },
      method: 'POST',
    });
    asked.write('x');
    const status = await new Promise(done =>
      asked.on('response', response => done(response.statusCode)).on('error', () => done('closed')),
    );
    expect(status).toBe(405);
    expect(Date.now() - began).toBeLessThan(20_000);
    asked.destroy();
  });
});

describe('what happened can be seen', () => {
  it('each refusal is counted and in the audit, with who and from where', async () => {
    const count = async () =>
      Number(/chatops_auth_failures_total\{reason="invalid_key"\} (\d+)/.exec(await metrics())?.[1]);
    const before = await count();
    await ask(command([rollout()]), stranger.secret);
    expect(await count()).toBe(before + 1);
    expect(audit().at(-1)).toMatchObject({ event: 'refused', code: 'signature-invalid', address: '127.0.0.1' });
    await ask(command([rollout({ stack: 'vault' })]));
    expect(audit().at(-1)).toMatchObject({
      code: 'stack-not-allowed',
      key: keys.id,
      trust: 'homelab',
      intents: [{ intent: 'test', action: 'rollout', stack: 'vault' }],
    });
    expect(await metrics()).toContain(
      'chatops_intent_failures_total{intent_name="test",action="rollout",stack="vault",reason="stack-not-allowed"}',
    );
  });

  it('promtool has nothing to say against the metrics', async () => {
    const text = await metrics();
    execFileSync('promtool', ['check', 'metrics'], { input: text });
    for (const name of [
      'chatops_intent_requests_total',
      'chatops_intent_duration_seconds_bucket',
      'chatops_build_info',
      'chatops_runs_in_progress',
      'process_resident_memory_bytes',
    ]) {
      expect(text).toContain(name);
    }
  });

  it('not being ready is told with its reason', async () => {
    const response = await fetch(`http://127.0.0.1:${agent.port}/readyz`);
    expect(response.status).toBe(503);
    expect(JSON.stringify(await response.json())).toContain('no-docker.sock');
  });

  it('its own key and state are for nobody else', () => {
    expect(statSync(join(dir, 'state')).mode & 0o077).toBe(0);
    for (const name of ['agent.key', 'chatops.db', 'audit.jsonl'])
      expect(statSync(join(dir, 'state', name)).mode & 0o077).toBe(0);
    expect(said.join('\n')).toContain(`agent-key: ${agent.publicKey}`);
  });
});

describe('a reload', () => {
  it('takes a key away at once, and keeps the old configuration where the new one is broken', async () => {
    expect(await ask(command([rollout()], { dry_run: true }), second.secret)).toBe('accepted');
    writeFileSync(file, 'agent: whitebox\ntrust: [}\n');
    agent.reload();
    expect(said.at(-1)).toContain('refused');
    expect(audit().at(-1)).toMatchObject({ event: 'reload-refused', code: 'config-invalid' });
    expect(await ask(command([rollout()], { dry_run: true }), second.secret)).toBe('accepted');
    configure({
      trust: [
        {
          name: 'homelab',
          key: keys.public,
          repository: 'org/homelab',
          allow: [{ actions: ['rollout'], stacks: ['stack-web'] }],
        },
      ],
    });
    agent.reload();
    expect(await ask(command([rollout()], { dry_run: true }), second.secret)).toBe('signature-invalid');
    configure();
    agent.reload();
  });
});
