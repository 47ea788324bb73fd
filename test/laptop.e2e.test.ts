import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { type CallResult, Laptop } from './stand/laptop.ts';
import { readPage } from './stand/page.ts';
import { LABEL, slowStack, World, webStack } from './stand/world.ts';

let world: World;
let anna: Laptop;
let stranger: Laptop;
beforeAll(async () => {
  world = new World();
  anna = new Laptop('anna', world.dir, () => world.host);
  stranger = new Laptop('stranger', world.dir, () => world.host);
  await world.github.start();
  const entry = { name: 'homelab', key: world.host.keys.public, repository: 'org/homelab' };
  await world.host.start({
    trust: [
      { ...entry, allow: [{ actions: ['rollout'], stacks: ['*'], require_labels: [LABEL] }] },
      {
        ...{ ...anna.entry, name: 'laptop' },
        allow: [
          { actions: ['rollout', 'rollback'], stacks: ['lap-*'], without_approval: ['laptop'] },
          { actions: ['rollout'], stacks: ['prod-*'], require_labels: [LABEL] },
        ],
      },
    ],
  });
});
afterAll(() => world[Symbol.asyncDispose]());

/** Runs `chatops` on Anna’s laptop, not on the host. */
const chatops = (args: string[], env: Record<string, string> = {}) => anna.chatops(args, env);
const intent = (stack: string, more = '') => {
  const file = join(world.dir, 'it.yaml');
  writeFileSync(file, `action: rollout\nstack: ${stack}\n${more}`);
  return file;
};

describe('the command line on a laptop', () => {
  it('plans, deploys, lists, shows and rolls back over the wire with the laptop’s own key', async () => {
    const port = await freePort();
    const says = () => readPage(port);
    const compose = (version: string) =>
      world.stack('lap-web', { 'compose.yaml': webStack(`chatops-test/web:${version}`, port) });
    compose('1');
    const plan = await chatops(['plan', intent('lap-web')]);
    expect({ exit: plan.code, stdout: plan.stdout }, plan.stderr).toEqual({
      exit: 0,
      stdout: expect.stringContaining('✓ planned'),
    });
    const first = await chatops(['run', intent('lap-web')]);
    expect({ exit: first.code, stderr: first.stderr, page: await says() }, first.stdout).toEqual({
      exit: 0,
      stderr: '',
      page: '1',
    });
    compose('2');
    const second = await chatops(['run', intent('lap-web'), '--json']);
    const lines = second.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { type: string; outcome?: string });
    expect({ type: lines.at(-1)?.type, outcome: lines.at(-1)?.outcome, page: await says() }).toEqual({
      type: 'receipt',
      outcome: 'succeeded',
      page: '2',
    });
    const back = await chatops(['rollback', 'lap-web']);
    expect({ exit: back.code, page: await says() }, back.stderr).toEqual({ exit: 0, page: '1' });

    const listed = JSON.parse((await chatops(['runs', '--json'])).stdout) as { id: string; title: string }[];
    expect(listed.map(({ title }) => title)).toEqual(['rollback on lap-web', ...Array(3).fill('rollout on lap-web')]);
    const next = JSON.parse((await chatops(['runs', '--json', '--before', listed[0]?.id ?? ''])).stdout);
    expect(next).toHaveLength(3);
    const one = JSON.parse((await chatops(['runs', listed[0]?.id ?? '', '--json'])).stdout);
    expect(one).toMatchObject({ ...listed[0], receipt: { outcome: 'succeeded', documents: [{ stack: 'lap-web' }] } });
    const shown = await chatops(['logs', listed[1]?.id ?? '']);
    expect({ exit: shown.code, stdout: shown.stdout }).toEqual({
      exit: 0,
      stdout: expect.stringMatching(/Container lap-web-web-1 {2}Started/),
    });
  });

  it('cancels a run that it started with --detach', async () => {
    world.stack('lap-slow', { 'compose.yaml': slowStack('1') });
    expect((await chatops(['run', intent('lap-slow')])).code).toBe(0);
    world.stack('lap-slow', { 'compose.yaml': slowStack('2') });
    const started = await chatops(['run', intent('lap-slow'), '--detach', '--json']);
    const { run } = JSON.parse(started.stdout) as { run: string };
    await sleep(300);
    const cancelled = await chatops(['cancel', run]);
    expect({ exit: cancelled.code, stdout: cancelled.stdout }, cancelled.stderr).toEqual({
      exit: 0,
      stdout: expect.stringContaining('✗ cancelled'),
    });
  });

  it('lists only the runs of its own entry, and refuses to follow or cancel others', async () => {
    world.stack('other', { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    const merge = world.merge({
      'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: other\n`,
    });
    const job = await world.deploy(merge, 'it');
    expect(job.outputs.status, job.log).toBe('succeeded');
    const listed = (await chatops(['runs'])).stdout;
    expect(listed).not.toContain('other');
    const run = job.outputs['run-id'] ?? '';
    expect((await chatops(['logs', run])).stderr).toContain('not-your-run');
    expect((await chatops(['cancel', run])).stderr).toContain('not-your-run');
    expect((await chatops(['runs', run])).stderr).toContain('not-your-run');
  });

  it.each<[string, () => Promise<CallResult>, string]>([
    ['for a stack that its rules do not allow', () => chatops(['run', intent('db')]), 'stack-not-allowed'],
    ['for a stack that needs a label', () => chatops(['run', intent('prod-web')]), 'approval-missing'],
    [
      'under the name of another user',
      () => chatops(['run', intent('lap-web')], { CHATOPS_AS: 'bob' }),
      'repository-not-allowed',
    ],
    [
      'with a key that the agent does not trust',
      () => chatops(['runs'], { CHATOPS_SIGNING_KEY_FILE: stranger.keyFile }),
      'signature-invalid',
    ],
    ['with a wrong agent key', () => chatops(['runs'], { CHATOPS_AGENT_KEY: anna.keys.public }), 'agent-key-mismatch'],
    ['to an agent that does not answer', () => chatops(['runs', '--agent', 'ws://127.0.0.1:1']), 'agent-unreachable'],
    ['without a key', () => chatops(['runs'], { CHATOPS_SIGNING_KEY_FILE: '' }), '--signing-key-file'],
    [
      'for several hosts',
      () => chatops(['run', intent('lap-web', 'hosts: tag:edge\n')]),
      'this command talks to one agent',
    ],
    [
      'with a parameter without a value',
      () => chatops(['run', intent('lap-web'), '--param', 'tag']),
      '--param name=value',
    ],
  ])(
    'refuses a call %s',
    async (_, call, message) => {
      const { code, stderr } = await call();
      expect({ exit: code, stderr }).toEqual({ exit: 1, stderr: expect.stringContaining(message) });
    },
    30_000,
  );

  it('prints a refusal as JSON with --json', async () => {
    const { code, stdout, stderr } = await chatops(['run', intent('db'), '--json']);
    expect({ exit: code, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'stack-not-allowed', message: expect.any(String), remedy: expect.any(String) },
    });
  });
});

describe('the option --json on a laptop', () => {
  it.each<[string, string[], unknown]>([
    [
      'validate',
      ['validate', 'it.yaml'],
      { valid: true, documents: [{ file: 'it.yaml', document: 1, what: 'rollout on lap-web' }], problems: [] },
    ],
    [
      'keygen',
      ['keygen'],
      { secret: expect.stringMatching(/^ed25519-secret:/), public: expect.any(String), id: expect.any(String) },
    ],
    ['key', ['key', 'fingerprint', 'anna.key'], () => ({ id: anna.keys.id, public: anna.keys.public })],
    [
      'config',
      ['config', 'check', 'host/agent.yaml'],
      { file: 'host/agent.yaml', agent: 'whitebox', entries: ['homelab', 'laptop'] },
    ],
  ])('prints one JSON object for "%s"', async (_, args, expected) => {
    intent('lap-web');
    const { code, stdout, stderr } = await chatops([...args, '--json']);
    expect({ exit: code, stdout: JSON.parse(stdout) }, stderr).toEqual({
      exit: 0,
      stdout: typeof expected === 'function' ? expected() : expected,
    });
  });
});
