import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../agent/config/load.ts';
import { generateKey } from '../protocol/keys.ts';
import { Receiver } from './doubles/receiver.ts';
import { LABEL, World } from './stand/world.ts';

const SECRET = 'corr3ct-horse-battery';
const receiver = new Receiver();
let world: World;
const at = (name: string) => join(world.dir, name);
const notify = () => ({
  notify: {
    channels: [
      { name: 'team', type: 'discord', url_file: at('discord') },
      { name: 'dead', type: 'discord', url_file: at('dead') },
    ],
    rules: [{ channels: ['team', 'dead'] }],
  },
});
beforeAll(async () => {
  await receiver.start();
  world = new World();
  writeFileSync(at('discord'), `${receiver.url}/hook\n`, { mode: 0o600 });
  // No server listens at that port.
  writeFileSync(at('dead'), 'http://127.0.0.1:9/hook\n', { mode: 0o600 });
  await world.github.start();
  await world.host.start(notify());
  world.stack('announced', {
    'compose.yaml':
      'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
  });
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  receiver.stop();
});
beforeEach(() => {
  receiver.got.length = 0;
});
const intent = (more = '') => ({
  'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: announced\n${more}`,
});
interface Embed {
  title: string;
  color: number;
  description: string;
  fields: { name: string; value: string }[];
}
async function embed(): Promise<Embed> {
  await expect.poll(() => receiver.got.length).toBeGreaterThan(0);
  return JSON.parse(receiver.got[0]?.body ?? '').embeds[0] as Embed;
}

describe('a notice to a channel', () => {
  it('reports a run that succeeded', async () => {
    const job = await world.deploy(world.merge(intent()), 'up');
    expect(job.outputs.status, job.log).toBe('succeeded');
    const { title, color, fields } = await embed();
    expect({ title, color }).toEqual({ title: 'whitebox: rollout on announced succeeded', color: 0x2ecc71 });
    expect(fields).toContainEqual(
      expect.objectContaining({
        name: 'run',
        value: expect.stringContaining(job.outputs['run-id']?.slice(0, 8) ?? ''),
      }),
    );
  });

  it('reports a run that failed, with a shortened cause and without the stack’s secrets', async () => {
    const shell = `echo $WORD >&2; exit 3`.replaceAll('$', '$$$$');
    world.stack('leaky', {
      'compose.yaml': `services: {web: {image: "chatops-test/web:1", pull_policy: never, env_file: [web.env], command: [sh, -c, ${JSON.stringify(shell)}]}}\n`,
      'web.env': `WORD='${SECRET}'\n`,
    });
    const merge = world.merge({
      'chatops/intents/leaky.yaml': `label_required: ${LABEL}\naction: rollout\nstack: leaky\nverify: { settle: 2s }\n`,
    });
    expect((await world.deploy(merge, 'leaky')).outputs.reason).toBe('service-exited');
    const { title, color, description } = await embed();
    expect({ title, color, isShort: description.length < 900 }).toEqual({
      title: 'whitebox: rollout on leaky failed',
      color: 0xe74c3c,
      isShort: true,
    });
    expect(receiver.got[0]?.body).not.toContain(SECRET);
  });

  it('reports a missing label', async () => {
    // The action itself refuses a missing label of the intent; here, the agent’s rule requires another.
    await world.host.stop();
    await world.host.start({
      ...notify(),
      trust: [
        {
          name: 'homelab',
          key: world.host.keys.public,
          repository: 'org/homelab',
          allow: [{ actions: ['rollout'], stacks: ['*'], require_labels: ['other'] }],
        },
      ],
    });
    const job = await world.deploy(world.merge(intent('timeout: 5m\n')), 'up');
    expect(job.outputs.reason).toBe('label-missing');
    const { title, color } = await embed();
    expect({ title, color }).toEqual({ title: 'whitebox: label-mismatch: label-missing', color: 0xe67e22 });
  });

  it('reports an untrusted key once for several attempts', async () => {
    for (let n = 0; n < 3; n++)
      await world.deploy(world.merge(intent()), 'up', { inputs: { 'signing-key': generateKey().secret } });
    const { title, description } = await embed();
    expect({ title, namesAddress: description.includes('127.0.0.1') }).toEqual({
      title: 'whitebox: auth-failure: signature-invalid',
      namesAddress: true,
    });
    expect(await world.host.metrics()).toContain('chatops_notifications_total{channel="team",outcome="folded"} 2');
    expect(receiver.got).toHaveLength(1);
  });

  it('reports an address that the agent refuses', async () => {
    world.host.configure({ ...notify(), allow_from: ['100.64.0.0/10'] });
    world.host.child?.kill('SIGHUP');
    await expect.poll(async () => (await fetch(`${world.host.url.replace('ws', 'http')}/healthz`)).status).toBe(403);
    const { title } = await embed();
    expect(title).toBe('whitebox: address-refused: address-not-allowed');
  });

  it('sends a test notice, and the command reports the channel that fails', async () => {
    world.host.configure(notify());
    world.host.child?.kill('SIGHUP');
    await expect.poll(async () => (await fetch(`${world.host.url.replace('ws', 'http')}/healthz`)).status).toBe(200);
    const done = await world.host.chatops(['notify', 'test']);
    expect({ exit: done.code, stdout: done.stdout.split('\n').sort() }, done.stderr).toEqual({
      exit: 1,
      stdout: ['', '✓ team', '✗ dead: ECONNREFUSED'],
    });
    expect((await world.host.chatops(['notify', 'test', 'team'])).code).toBe(0);
    expect((await world.host.chatops(['notify', 'test', 'none'])).stdout).toContain('There is no channel "none"');
    expect((await world.host.chatops(['notify'])).code).toBe(2);
  });

  it('does not delay a run if its receiver hangs', async () => {
    receiver.hangs = true;
    const began = performance.now();
    const job = await world.deploy(world.merge(intent('timeout: 6m\n')), 'up');
    expect({ status: job.outputs.status, isInTime: performance.now() - began < 20_000 }, job.log).toEqual({
      status: 'succeeded',
      isInTime: true,
    });
    receiver.hangs = false;
  });
});

it('refuses at load a notification rule whose channel does not exist', () => {
  const entry = {
    name: 'x',
    key: generateKey().public,
    repository: 'o/r',
    allow: [{ actions: ['rollout'], stacks: ['*'] }],
  };
  const config = (more: object) => JSON.stringify({ agent: 'x', trust: [entry], notify: more });
  expect(() => parseConfig(config({ rules: [{ channels: ['team'] }] }), 'agent.yaml')).toThrow(
    'The channel "team" does not exist. Existing channels: none',
  );
  const team = { name: 'team', type: 'discord', url_file: '/etc/x' };
  expect(() => parseConfig(config({ channels: [team, team] }), 'agent.yaml')).toThrow('"team" is used twice');
  expect(() =>
    parseConfig(config({ channels: [{ name: 'team', type: 'discord', url: 'https://x' }] }), 'agent.yaml'),
  ).toThrow(/url/);
});
