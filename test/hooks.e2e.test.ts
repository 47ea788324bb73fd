import { createHmac } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../agent/config/load.ts';
import { World } from './stand/world.ts';

const SECRET = 'a-secret-of-some-length';
let world: World;
let folder: string;
const file = () => join(world.dir, 'secret');
const hook = (changes: object = {}) => ({
  name: 'kuma',
  intent: 'up',
  token_file: file(),
  cooldown: '1ms',
  max_per_hour: 1000,
  ...changes,
});
const config = (hooks: object[], allow: object = { actions: ['rollout'], stacks: ['hooked'] }) => ({
  intents_dir: folder,
  hooks,
  trust: [
    {
      name: 'homelab',
      key: world.host.keys.public,
      repository: 'org/homelab',
      allow: [{ actions: ['rollout'], stacks: ['*'] }],
    },
    { name: 'hooks', local: 'webhook', allow: [allow] },
  ],
});
beforeAll(async () => {
  world = new World();
  folder = join(world.dir, 'intents');
  mkdirSync(folder);
  writeFileSync(file(), `${SECRET}\n`, { mode: 0o600 });
  world.stack('hooked', {
    'compose.yaml':
      'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
  });
  writeFileSync(join(folder, 'up.yaml'), 'action: rollout\nstack: hooked\n');
  writeFileSync(
    join(folder, 'one.yaml'),
    'params: {service: {type: string}}\naction: rollout\nstack: hooked\nservice: "{{ params.service }}"\n',
  );
  await world.host.start(config([hook()]));
});
afterAll(() => world[Symbol.asyncDispose]());

async function reconfigure(hooks: object[], allow?: object): Promise<void> {
  const before = world.host.log.length;
  world.host.configure(config(hooks, allow));
  world.host.child?.kill('SIGHUP');
  await expect.poll(() => world.host.log.slice(before)).toContain('configuration');
  expect(world.host.log.slice(before)).toContain('configuration reloaded');
}
async function post(
  path: string,
  body: unknown,
  headers: Record<string, string> = { Authorization: `Bearer ${SECRET}` },
) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(`${world.host.url.replace('ws', 'http')}/hooks/${path}`, {
    method: 'POST',
    headers,
    body: text,
  });
  return { status: response.status, ...((await response.json()) as { run?: string; code?: string; ignored?: string }) };
}
const signed = (body: string) => ({
  'X-Hub-Signature-256': `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`,
});
interface ListedRun {
  id: string;
  outcome: string;
  receipt: { documents: { service?: string; stack: string }[] } | null;
}
async function ended(run: string | undefined): Promise<ListedRun> {
  await expect
    .poll(
      async () => (JSON.parse((await world.host.chatops(['runs', run ?? '', '--json'])).stdout) as ListedRun).outcome,
      { timeout: 30_000 },
    )
    .not.toBeNull();
  return JSON.parse((await world.host.chatops(['runs', run ?? '', '--json'])).stdout) as ListedRun;
}

describe('a hook', () => {
  it('a hook starts a run of an intent of the host and answers with its id', async () => {
    const answer = await post('kuma', {});
    expect(answer).toMatchObject({ status: 202, run: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect((await ended(answer.run)).outcome).toBe('succeeded');
    const [start] = (await world.host.audit()).filter(({ event, run }) => event === 'run-begun' && run === answer.run);
    expect(start).toMatchObject({ trust: 'hooks', rules: ['allow.1'], actor: 'kuma' });
    expect(await world.host.metrics()).toMatch(/chatops_hooks_total\{hook="kuma",outcome="begun"\} 1/);
  });

  it.each<[string, object, string, Record<string, string>, number]>([
    ['the bearer token', {}, 'kuma', { Authorization: `Bearer ${SECRET}` }, 202],
    ['no token', {}, 'kuma', {}, 401],
    ['another token', {}, 'kuma', { Authorization: 'Bearer other' }, 401],
    ['GitHub’s signature', { token_file: undefined, hmac_file: 'file' }, 'kuma', signed('{}'), 202],
    ['a signature of something else', { token_file: undefined, hmac_file: 'file' }, 'kuma', signed('{"a":1}'), 401],
    ['no signature', { token_file: undefined, hmac_file: 'file' }, 'kuma', {}, 401],
    ['the secret in the address', { token_file: undefined, path_file: 'file' }, `kuma/${SECRET}`, {}, 202],
    ['another secret in the address', { token_file: undefined, path_file: 'file' }, 'kuma/other', {}, 401],
    ['no secret in the address', { token_file: undefined, path_file: 'file' }, 'kuma', {}, 401],
    ['the secret in the address of another kind', {}, `kuma/${SECRET}`, {}, 401],
    ['another name', {}, 'other', { Authorization: `Bearer ${SECRET}` }, 404],
    ['a path that climbs', {}, 'kuma/x/../../metrics', { Authorization: `Bearer ${SECRET}` }, 404],
  ])('a hook checks the credentials and the path of a delivery: %s', async (_, changes, path, headers, status) => {
    const named = Object.fromEntries(
      Object.entries(changes).map(([key, value]) => [key, value === 'file' ? file() : value]),
    );
    await reconfigure([hook(named)]);
    const answer = await post(path, '{}', headers);
    expect(
      { status: answer.status, hasCodeIfRefused: status < 300 || answer.code !== undefined },
      JSON.stringify(answer),
    ).toEqual({ status, hasCodeIfRefused: true });
    if (answer.run) await ended(answer.run);
  });

  it.each<[string, object, unknown, number]>([
    [
      'Uptime Kuma: down',
      { preset: 'uptime_kuma' },
      { heartbeat: { status: 0, msg: 'timeout' }, monitor: { name: 'web' }, msg: 'down' },
      202,
    ],
    ['Uptime Kuma: up', { preset: 'uptime_kuma' }, { heartbeat: { status: 1 }, monitor: { name: 'web' } }, 200],
    ['Uptime Kuma: test message', { preset: 'uptime_kuma' }, { heartbeat: null, monitor: null, msg: 'Testing' }, 200],
    ['Uptime Kuma: up, with "on: [up]"', { preset: 'uptime_kuma', on: ['up'] }, { heartbeat: { status: 1 } }, 202],
    [
      'Alertmanager: firing',
      { preset: 'alertmanager' },
      { status: 'firing', alerts: [{ labels: { service: 'web' } }] },
      202,
    ],
    ['Alertmanager: resolved', { preset: 'alertmanager' }, { status: 'resolved', alerts: [] }, 200],
    ['Healthchecks: down', { preset: 'healthchecks' }, { status: 'down' }, 202],
    [
      'GitHub: package published',
      { preset: 'registry_package' },
      { action: 'published', registry_package: { name: 'web' } },
      202,
    ],
    ['GitHub: ping', { preset: 'registry_package' }, { zen: 'x', hook_id: 1 }, 200],
    [
      'a condition that matches',
      { when: [{ path: 'monitor.name', is: ['web', 'db'] }] },
      { monitor: { name: 'db' } },
      202,
    ],
    [
      'a condition that does not match',
      { when: [{ path: 'monitor.name', is: 'web' }] },
      { monitor: { name: 'other' } },
      200,
    ],
    ['a condition on a prototype', { when: [{ path: 'constructor.name', is: 'Object' }] }, {}, 200],
  ])('a hook starts a run only if its rules accept the payload: %s', async (_, changes, payload, status) => {
    await reconfigure([hook(changes)]);
    const answer = await post('kuma', payload);
    expect({ status: answer.status, isAccepted: answer.ignored === undefined }, JSON.stringify(answer)).toEqual({
      status,
      isAccepted: status === 202,
    });
    if (answer.run) await ended(answer.run);
  });

  it('a hook takes only params that match their patterns', async () => {
    const params = { service: { from: 'alerts.0.labels.service', pattern: '[a-z]{1,20}' } };
    await reconfigure([hook({ intent: 'one', params })]);
    const payload = (service: unknown) => ({ alerts: [{ labels: { service } }] });
    const good = await post('kuma', payload('web'));
    expect(good.status, JSON.stringify(good)).toBe(202);
    expect((await ended(good.run)).receipt?.documents[0]?.service).toBe('web');
    for (const bad of [
      '--evil',
      'web\nx',
      'web/../x',
      '',
      null,
      7,
      ['web'],
      { a: 1 },
      'x'.repeat(21),
      '{{ params.x }}',
    ])
      expect(await post('kuma', payload(bad)), JSON.stringify(bad)).toMatchObject({ status: 422, code: 'hook-param' });
    expect(await post('kuma', {})).toMatchObject({ status: 422, code: 'hook-param' });
  });

  it('a hook keeps its cooldown and its hourly limit, also after a restart', async () => {
    await reconfigure([hook({ cooldown: '1h' })]);
    expect(await post('kuma', {})).toMatchObject({ status: 429, code: 'hook-cooldown' });
    await world.host.stop();
    await world.host.start(config([hook({ name: 'other', cooldown: '1ms', max_per_hour: 2 })]));
    for (const status of [202, 202, 429]) {
      const answer = await post('other', {});
      expect({ status: answer.status, code: answer.code }, JSON.stringify(answer)).toEqual({
        status,
        code: status === 429 ? 'hook-limit' : undefined,
      });
      if (answer.run) await ended(answer.run);
    }
    // The hourly limit also counts the runs before a restart.
    await world.host.stop();
    await world.host.start(config([hook({ name: 'other', cooldown: '1ms', max_per_hour: 2 })]));
    expect(await post('other', {})).toMatchObject({ status: 429, code: 'hook-limit' });
  });

  it('a hook secret is rotated without a refused delivery', { timeout: 60_000 }, async () => {
    await reconfigure([hook({ when: [{ path: 'never', is: 'there' }] })]);
    let secret = SECRET;
    let isOver = false;
    const statuses: number[] = [];
    const traffic = (async () => {
      while (!isOver) statuses.push((await post('kuma', {}, { Authorization: `Bearer ${secret}` })).status);
    })();
    const rotation = await world.host.chatops(['hook', 'rotate', 'kuma']);
    const next = /^secret: (\S+)$/m.exec(rotation.stdout)?.[1] ?? '';
    expect({ exit: rotation.code, hasNextSecret: next.length > 20 }, rotation.stderr).toEqual({
      exit: 0,
      hasNextSecret: true,
    });
    expect((await post('kuma', {}, { Authorization: `Bearer ${next}` })).status).toBe(200);
    secret = next;
    await new Promise(done => setTimeout(done, 200));
    expect((await world.host.chatops(['hook', 'rotate', 'kuma', '--finish'])).code).toBe(0);
    isOver = true;
    await traffic;
    expect({ hasDeliveries: statuses.length > 3, statuses: new Set(statuses) }).toEqual({
      hasDeliveries: true,
      statuses: new Set([200]),
    });
    expect((await post('kuma', {}, { Authorization: `Bearer ${SECRET}` })).status).toBe(401);
    expect((await world.host.chatops(['hook', 'rotate', 'kuma', '--finish'])).stderr).toContain(
      'Start with: chatops hook rotate kuma',
    );
    expect((await world.host.chatops(['hook', 'rotate', 'other'])).stderr).toContain('There are: kuma.');
    writeFileSync(file(), `${SECRET}\n`, { mode: 0o600 });
  });

  it('a hook cannot do more than its trust entry allows', async () => {
    await reconfigure([hook({ cooldown: '1ms' })], { actions: ['rollout'], stacks: ['elsewhere'] });
    expect(await post('kuma', {})).toMatchObject({ status: 403, code: 'stack-not-allowed' });
    expect((await world.host.audit()).at(-1)).toMatchObject({
      event: 'refused',
      code: 'stack-not-allowed',
      address: '127.0.0.1',
    });
  });

  it('a hook refuses a body that is too large, has no JSON or arrives too slowly, and another method than POST', {
    timeout: 30_000,
  }, async () => {
    await reconfigure([hook()]);
    expect(await post('kuma', '{"a":')).toMatchObject({ status: 422, code: 'hook-malformed' });
    const form = new URLSearchParams({ payload: '{}' }).toString();
    const encoded = { Authorization: `Bearer ${SECRET}`, 'Content-Type': 'application/x-www-form-urlencoded' };
    expect(await post('kuma', form, encoded)).toMatchObject({ status: 202 });
    expect(await post('kuma', 'text=x', encoded)).toMatchObject({ status: 415, code: 'hook-media-type' });
    const got = await fetch(`${world.host.url.replace('ws', 'http')}/hooks/kuma`);
    expect({ status: got.status, allow: got.headers.get('allow'), body: await got.json() }).toMatchObject({
      ...{ status: 405, allow: 'POST', body: { code: 'hook-method' } },
    });
    expect(await world.host.metrics()).toMatch(/chatops_hooks_total\{hook="kuma",outcome="refused"\} [1-9]/);
    const large = await post('kuma', `"${'x'.repeat(300_000)}"`).catch(() => ({ status: 0, code: 'closed' }));
    expect(['hook-malformed', 'closed']).toContain(large.code);
    const startedAt = performance.now();
    const slow = request(`${world.host.url.replace('ws', 'http')}/hooks/kuma`, {
      method: 'POST',
      headers: { 'Content-Length': '100' },
    });
    const feeding = setInterval(() => slow.write(' '), 500);
    await new Promise(done =>
      slow
        .on('close', done)
        .on('error', () => undefined)
        .on('response', response => response.resume()),
    );
    clearInterval(feeding);
    expect(performance.now() - startedAt).toBeLessThan(15_000);
    expect((await post('kuma', {})).status).toBe(202);
  });

  it.each<[string, object, RegExp]>([
    ['without a secret', { token_file: undefined }, /Expected one of hmac_file, token_file and path_file/],
    ['with two kinds of secret', { hmac_file: '/etc/x' }, /Expected one of/],
    [
      'with events that its preset does not send',
      { preset: 'uptime_kuma', on: ['firing'] },
      /Expected events of the preset/,
    ],
    ['with an invalid pattern', { params: { a: { from: 'x', pattern: '(' } } }, /params/],
  ])('a hook %s is refused at load', (_, changes, message) => {
    const text = JSON.stringify({ agent: 'whitebox', ...config([hook(changes)]) });
    expect(() => parseConfig(text, 'agent.yaml')).toThrow(message);
  });

  it('a hook without a trust entry is refused at load', () => {
    const all = config([hook()]);
    const text = JSON.stringify({ agent: 'whitebox', ...all, trust: all.trust.slice(0, 1) });
    expect(() => parseConfig(text, 'agent.yaml')).toThrow(/local: webhook/);
  });
});
