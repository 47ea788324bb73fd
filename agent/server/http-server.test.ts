import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSecretKey } from '../../protocol/keys.ts';
import { createOffer } from '../../protocol/offer.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import {
  agent,
  ask,
  audit,
  configure,
  dir,
  file,
  keys,
  metrics,
  rollout,
  said,
  second,
  stranger,
  url,
  withAgent,
} from '../../test/stand/guarded.ts';
import { Client, command } from '../../test/stand/signer.ts';

withAgent();

describe('the wire', () => {
  it('refuses an untrusted key, and a changed payload', async () => {
    expect(await ask(command([rollout()]), stranger.secret)).toBe('signature-invalid');
    const client = new Client(url());
    const { frame, bytes } = await client.offer(command([rollout()]), keys.secret);
    const offer = JSON.parse(Buffer.from(frame.payload, 'base64').toString());
    const payload = Buffer.from(JSON.stringify({ ...offer, size: offer.size + 1 })).toString('base64');
    client.socket.send(JSON.stringify({ ...frame, payload }));
    expect(await client.answer()).toBe('signature-invalid');
    const other = new Client(url());
    const changed = Buffer.from(bytes.toString().replace('stack-web', 'stack-wet'));
    await other.sendOffered((await other.offer(command([rollout()]), keys.secret)).frame, changed);
    expect(await other.answer()).toBe('command-malformed');
  });

  it('refuses a frame that was recorded and is sent again, here or on a second connection', async () => {
    const first = new Client(url());
    const { frame, bytes } = await first.offer(command([rollout()], { dry_run: true }), keys.secret);
    await first.sendOffered(frame, bytes);
    expect(await first.answer()).toBe('accepted');
    const replay = new Client(url());
    await replay.frame('hello');
    await replay.sendOffered(frame, bytes);
    expect(await replay.answer()).toBe('challenge-stale');
  });

  it('refuses a command whose challenge differs from its offer', async () => {
    const client = new Client(url());
    const bytes = Buffer.from(JSON.stringify(command([rollout()], { challenge: 'another' })));
    const { frame } = await client.offer({}, keys.secret);
    const offer = createOffer(bytes, { agent: 'whitebox', challenge: await client.challenge() });
    await client.sendOffered(
      { ...frame, ...signPayload(PAYLOAD_TYPES.offer, offer, readSecretKey(keys.secret)) },
      bytes,
    );
    expect(await client.answer()).toBe('challenge-stale');
  });

  it('reads a command of several frames, and not a byte more than was offered', async () => {
    const large = command([rollout()], { dry_run: true, params: { text: 'x'.repeat(200_000) } });
    expect(await ask(large)).toBe('accepted');
    const client = new Client(url());
    const { frame, bytes } = await client.offer(large, keys.secret);
    await client.sendOffered(frame, Buffer.concat([bytes.subarray(0, -1), Buffer.from('  ')]));
    expect(await client.answer()).toBe('frame-malformed');
  });

  it('refuses a receipt or a hello in place of a command', async () => {
    const client = new Client(url());
    const hello = await client.frame('hello');
    client.socket.send(JSON.stringify({ ...hello, type: 'offer' }));
    expect(await client.answer()).toBe('signature-invalid');
  });

  it.each<[string, (client: Client) => void, string]>([
    ['garbage', client => client.socket.send('{"type":'), 'frame-malformed'],
    ['JSON of another shape', client => client.socket.send('[1,2,3]'), 'frame-malformed'],
    ['deep JSON', client => client.socket.send(`${'['.repeat(32_000)}${']'.repeat(32_000)}`), 'frame-malformed'],
    ['wide JSON', client => client.socket.send(`[${'{},'.repeat(20_000)}{}]`), 'frame-malformed'],
    [
      'an unknown key in the frame',
      client =>
        client.socket.send(
          '{"type":"offer","payloadType":"a","payload":"","signatures":[{"sig":""}],"__proto__":{"a":1},"b":1}',
        ),
      'frame-malformed',
    ],
    ['a binary frame', client => client.socket.send(Buffer.from([0, 1, 2])), 'frame-malformed'],
    ['64 KiB and a byte', client => client.socket.send('x'.repeat(64 * 1024 + 1)), 'closed 1009'],
  ])('refuses %s, and serves the next connection', async (_, send, answer) => {
    const client = new Client(url());
    await client.frame('hello');
    send(client);
    expect(await client.answer()).toBe(answer);
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('accepted');
  });

  it('refuses a connection with an Origin, to another path or without the subprotocol', async () => {
    for (const [client, status] of [
      [new Client(url(), { headers: { Origin: 'https://example.org' } }), 403],
      [new Client(url(), {}, undefined, '/v2'), 404],
      [new Client(url(), {}, 'chat'), 400],
      [new Client(url(), {}, 'chatops.v1'), 400],
    ] as const) {
      expect(await client.frame('hello')).toBeUndefined();
      expect(client.status).toBe(status);
      expect(JSON.parse(client.body).remedy).toBeTruthy();
    }
  });

  it('refuses a connection that sends no frame', { timeout: 20_000 }, async () => {
    const client = new Client(url());
    await client.frame('hello');
    expect(await client.answer()).toBe('hello-timeout');
  });

  it('refuses more connections than an address may open, with the time to wait, but still serves /healthz', async () => {
    configure({ rate_limit: { commands: 2, per: '1m' } });
    agent.reload();
    const statuses: (number | undefined)[] = [];
    for (let n = 0; n < 3; n++) {
      const client = new Client(url());
      await client.frame('hello');
      statuses.push(client.status);
      if (client.status === 429) expect(Number(client.headers['retry-after'])).toBeGreaterThan(0);
      await client.end();
    }
    expect(statuses).toEqual([undefined, undefined, 429]);
    for (let n = 0; n < 5; n++) expect((await fetch(`http://127.0.0.1:${agent.port}/healthz`)).status).toBe(200);
    configure();
    agent.reload();
  });

  it('refuses addresses that are not allowed, at every endpoint', async () => {
    configure({ allow_from: ['100.64.0.0/10'] });
    agent.reload();
    const client = new Client(url());
    await client.frame('hello');
    expect(client.status).toBe(403);
    expect((await fetch(`http://127.0.0.1:${agent.port}/metrics`)).status).toBe(403);
    configure();
    agent.reload();
  });

  it('excludes an address that sends requests ahead of their answers, and no other address', async () => {
    const from = (localAddress: string) => {
      const socket = connect({ port: agent.port, host: '127.0.0.1', localAddress });
      socket.on('error', () => undefined);
      let answers = 0;
      socket.on('data', chunk => {
        answers += String(chunk).split('HTTP/1.1 200').length - 1;
      });
      const get = (times: number) => socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(times));
      return { socket, get, answers: () => answers };
    };
    const [idle, patient, hasty] = [from('127.0.0.8'), from('127.0.0.9'), from('127.0.0.8')];
    await Promise.all([idle, patient, hasty].map(({ socket }) => once(socket, 'connect')));
    for (let n = 1; n <= 10; n++) {
      patient.get(1);
      await expect.poll(patient.answers).toBe(n);
    }
    hasty.get(1_000);
    await Promise.all([idle, hasty].map(({ socket }) => once(socket, 'close')));
    expect(hasty.answers()).toBeLessThanOrEqual(4);
    const again = from('127.0.0.8');
    await once(again.socket, 'close');
    patient.get(1);
    await expect.poll(patient.answers).toBe(11);
    patient.socket.destroy();
    expect((await audit()).at(-1)).toMatchObject({ code: 'rate-limited', address: '127.0.0.8' });
  });

  it.each(['/healthz', '/hooks/none'])('excludes an address that sends bodies that nothing reads: %s', async path => {
    const localAddress = path === '/healthz' ? '127.0.0.11' : '127.0.0.12';
    const post = () =>
      new Promise<number | string>(done => {
        const sent = request({ port: agent.port, host: '127.0.0.1', localAddress, path, method: 'POST', agent: false });
        sent.on('response', response => done(response.resume().statusCode ?? 0));
        sent.on('error', () => done('closed'));
        sent.end('x');
      });
    const answers: (number | string)[] = [];
    for (let n = 0; n < 22; n++) answers.push(await post());
    const status = path === '/healthz' ? 405 : 404;
    expect(answers).toEqual([...Array.from({ length: 20 }, () => status), 'closed', 'closed']);
    expect((await fetch(`http://127.0.0.1:${agent.port}/healthz`)).status).toBe(200);
  });

  it('ends requests that arrive too slowly', { timeout: 30_000 }, async () => {
    const start = Date.now();
    const slow = request({
      port: agent.port,
      host: '127.0.0.1',
      path: '/healthz',
      headers: { 'Content-Length': '10' },
      method: 'POST',
    });
    slow.write('x');
    const status = await new Promise(done =>
      slow.on('response', response => done(response.statusCode)).on('error', () => done('closed')),
    );
    expect(status).toBe(405);
    expect(Date.now() - start).toBeLessThan(20_000);
    slow.destroy();
  });
});

describe('the records of the endpoints', () => {
  it('count each refusal, and have its sender and address in the audit log', async () => {
    const count = async () =>
      Number(/chatops_auth_failures_total\{reason="invalid_key"\} (\d+)/.exec(await metrics())?.[1]);
    const before = await count();
    await ask(command([rollout()]), stranger.secret);
    expect(await count()).toBe(before + 1);
    expect((await audit()).at(-1)).toMatchObject({ event: 'refused', code: 'signature-invalid', address: '127.0.0.1' });
    await ask(command([rollout({ stack: 'vault' })]));
    expect((await audit()).at(-1)).toMatchObject({
      code: 'stack-not-allowed',
      key: keys.id,
      trust: 'homelab',
      intents: [{ intent: 'test', action: 'rollout', stack: 'vault' }],
    });
    const text = await metrics();
    expect(text).toContain(
      'chatops_intent_failures_total{intent_name="unknown",action="unknown",stack="unknown",reason="stack-not-allowed"}',
    );
    expect(text).not.toContain('"vault"');
  });

  it('have metrics that promtool accepts', async () => {
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

  it('have the reason on /readyz if the agent is not ready', async () => {
    const response = await fetch(`http://127.0.0.1:${agent.port}/readyz`);
    expect(response.status).toBe(503);
    expect(JSON.stringify(await response.json())).toContain('no-docker.sock');
  });

  it('are readable only by the user of the agent, like its key', () => {
    expect(statSync(join(dir, 'state')).mode & 0o077).toBe(0);
    for (const name of ['agent.key', 'chatops.db']) expect(statSync(join(dir, 'state', name)).mode & 0o077).toBe(0);
    expect(said.join('\n')).toContain(`agent-key: ${agent.publicKey}`);
  });
});

describe('an agent whose state folder is not writable', () => {
  it('refuses new commands, and accepts them again when it is', async () => {
    const runs = join(dir, 'state', 'runs');
    renameSync(runs, `${runs}.away`);
    writeFileSync(runs, 'in the way');
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('state-unwritable');
    rmSync(runs);
    renameSync(`${runs}.away`, runs);
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('accepted');
  });
});

describe('a reload', () => {
  it.each<[string, (file: string) => void, RegExp]>([
    [
      'a next key that is not a key',
      file => writeFileSync(`${file}.next`, 'nonsense\n', { mode: 0o600 }),
      /agent\.key\.next: Expected a secret key/,
    ],
    [
      'a next key that other users can read',
      file => writeFileSync(`${file}.next`, 'x\n', { mode: 0o644 }),
      /chmod 600 .*agent\.key\.next/,
    ],
    ['its own key missing', file => renameSync(file, `${file}.away`), /agent\.key: ENOENT.*Put the agent's key back/],
  ])('with %s is refused, and the agent continues with the old configuration', async (_, spoil, message) => {
    const own = join(dir, 'state', 'agent.key');
    const before = agent.publicKey;
    spoil(own);
    agent.reload();
    rmSync(`${own}.next`, { force: true });
    if (existsSync(`${own}.away`)) renameSync(`${own}.away`, own);
    expect(said.at(-1)).toMatch(message);
    const refused = (await audit()).findLast(({ event }) => event === 'reload-refused');
    expect(refused).toMatchObject({ by: 'signal', code: 'config-invalid', message: expect.stringMatching(message) });
    expect(agent.publicKey).toBe(before);
    expect(await ask(command([rollout()], { dry_run: true }))).toBe('accepted');
    agent.reload();
    expect(said.at(-1)).toContain('configuration reloaded');
  });

  it('revokes a key at once, and keeps the old configuration if the new one is invalid', async () => {
    expect(await ask(command([rollout()], { dry_run: true }), second.secret)).toBe('accepted');
    writeFileSync(file, 'agent: whitebox\ntrust: [}\n');
    agent.reload();
    expect(said.at(-1)).toContain('refused');
    expect(await audit()).toContainEqual(expect.objectContaining({ event: 'reload-refused', code: 'config-invalid' }));
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
