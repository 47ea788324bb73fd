import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { generateKey } from '../protocol/keys.ts';
import { freePort, Host } from './stand/host.ts';
import type { Finished } from './stand/runner.ts';
import { Client, command } from './stand/signer.ts';
import { docker, LABEL, slowStack, World, webStack } from './stand/world.ts';

/** One world and, in addition to its own host, four hosts whose stacks are all called `app`. */
const NAMES = ['nas', 'edge-1', 'edge-2', 'edge-3'] as const;
type Name = (typeof NAMES)[number];
const keys = generateKey();
let world: World;
const hosts = new Map<Name, Host>();
const ports = new Map<string, number>();

beforeAll(async () => {
  world = await new World({ keys }).start();
  for (const name of NAMES) {
    const dir = join(world.dir, name);
    const data = join(dir, 'data');
    mkdirSync(data, { recursive: true });
    writeFileSync(join(data, 'kept.txt'), 'kept\n');
    const host = new Host({
      ...{ dir, repository: 'org/homelab', keys },
      allow: [{ actions: ['rollout', 'backup', 'scale'], stacks: ['*'], require_labels: [LABEL], allow_older: true }],
      config: {
        agent: name,
        // The hosts share one engine: each has its own project name.
        compose: { grants: [{ stack: 'app', allow: ['binds'], project: `app-${name}` }] },
        backups: { sources: [data], destinations: [{ path: dir, min_free: '1MiB' }] },
      },
    });
    hosts.set(name, host);
    ports.set(name, await freePort());
    await host.start();
  }
}, 60_000);
afterAll(async () => {
  for (const name of NAMES) {
    await hosts.get(name)?.stop('SIGKILL');
    const own = docker('ps', '--all', '--quiet', '--filter', `label=com.docker.compose.project=app-${name}`).trim();
    if (own) docker('rm', '--force', ...own.split('\n'));
    docker('network', 'rm', `app-${name}_default`);
  }
  await world[Symbol.asyncDispose]();
});

const at = (name: Name) => hosts.get(name) as Host;
const health = (good: boolean) =>
  `    healthcheck: {test: [CMD, "${good ? 'true' : 'false'}"], interval: 1s, retries: 1, timeout: 10s}\n`;
/** Writes the compose file that the next rollout of `app` on a host uses. */
function prepare(name: Name, version: string, good = true): void {
  const folder = join(at(name).stacks, 'app');
  mkdirSync(folder, { recursive: true });
  const compose = webStack(`chatops-test/web:${version}`, ports.get(name) as number, health(good));
  writeFileSync(join(folder, 'compose.yaml'), `name: app-${name}\n${compose}`);
}
const says = async (name: Name) =>
  fetch(`http://127.0.0.1:${ports.get(name)}/`)
    .then(async answer => (await answer.text()).trim())
    .catch(() => 'nothing');
const rollout = (id: string, more: string) =>
  `id: ${id}\nlabel_required: ${LABEL}\naction: rollout\nstack: app\ntimeout: 30s\n${more}`;
const backup = (host: Name) =>
  `id: data\nlabel_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nhost: ${host}\nsource: ${join(at(host).dir, 'data')}\ndestination: ${at(host).dir}\n`;
const hostsFile = () =>
  NAMES.map(
    name =>
      `${name}: {agent: "${at(name).url}", key: "${at(name).agentKey}", tags: [${name.startsWith('edge') ? 'edge' : 'store'}]}\n`,
  ).join('');

/** Merges an intents file of these documents and deploys it to the hosts of the repository's hosts file. */
function deploy(documents: string[], inputs: Record<string, string> = {}): Promise<Finished> {
  const merge = world.merge({
    'chatops/intents/it.yaml': documents.join('---\n'),
    'chatops/hosts.yaml': hostsFile(),
  });
  return world.deploy(merge, 'it', {
    inputs: {
      intent: 'it',
      agent: '',
      'agent-key': '',
      'hosts-file': 'chatops/hosts.yaml',
      'connect-timeout': '1s',
      ...inputs,
    },
  });
}
const runsOf = async (name: Name) =>
  JSON.parse((await at(name).chatops(['runs', '--json'])).stdout) as { id: string; outcome: string; title: string }[];
const pages = async () => Object.fromEntries(await Promise.all(NAMES.map(async name => [name, await says(name)])));
const version1 = { nas: '1', 'edge-1': '1', 'edge-2': '1', 'edge-3': '1' };

/** Each stack runs version 1 when a test starts, and its compose file asks for version 2. */
beforeEach(async () => {
  const running = await pages();
  const others = NAMES.filter(name => running[name] !== '1');
  for (const name of others) prepare(name, '1');
  for (const name of NAMES) if (!others.includes(name)) prepare(name, '2');
  if (others.length === 0) return;
  const first = await deploy([rollout('app', `hosts: [${others}]\nmax_unavailable: 100%\n`)]);
  expect({ status: first.outputs.status, pages: await pages() }, first.log).toEqual({
    status: 'succeeded',
    pages: version1,
  });
  for (const name of others) prepare(name, '2');
}, 60_000);

describe('a graph over several hosts', () => {
  it('a graph runs its hosts in order, sends one command per host and wave, and is shown as a whole', async () => {
    const before = await runsOf('nas');
    const job = await deploy([
      backup('nas'),
      rollout('one', 'host: edge-1\nneeds: [data]\n'),
      rollout('two', 'host: edge-2\nneeds: [data]\n'),
      rollout('last', 'host: nas\nneeds: [one, two]\n'),
    ]);
    expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
      status: 'succeeded',
      reason: '',
    });
    expect(await pages()).toEqual({ ...version1, nas: '2', 'edge-1': '2', 'edge-2': '2' });
    expect((await runsOf('nas')).length - before.length).toBe(2);
    expect(job.log).toContain('2. one: rollout on app at edge-1 (after data)');
    expect(job.log).toMatch(/^edge-1 \| one: ── up/m);
    expect(job.summary).toContain('```mermaid\nflowchart LR\n');
    expect(job.summary).toContain(':::good');
    expect(job.summary).toMatch(/\| edge\\-1 \| one \| ✓ succeeded \||\| edge-1 \| one \| ✓ succeeded \|/);
  });

  it('a graph skips documents that need an unreachable host and finishes the others', async () => {
    await at('edge-1').stop();
    try {
      const job = await deploy([
        rollout('gone', 'host: edge-1\nneeds: []\non_failure: continue\n'),
        rollout('free', 'host: edge-2\nneeds: []\n'),
        rollout('tied', 'host: edge-3\nneeds: [gone]\n'),
        rollout('mend', 'host: nas\nneeds: [gone]\nif: failed\n'),
      ]);
      expect({ exit: job.code, status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
        exit: 1,
        status: 'refused',
        reason: 'agent-unreachable',
      });
      expect(await pages()).toEqual({ ...version1, 'edge-2': '2', nas: '2' });
      expect(job.summary).toContain('refused: agent-unreachable');
    } finally {
      await at('edge-1').start();
    }
  });

  it('a graph waits for a host that disappears until the job times out, and finishes the others', async () => {
    const slow = `name: app-edge-1\n${slowStack('1')}`;
    writeFileSync(join(at('edge-1').stacks, 'app', 'compose.yaml'), slow);
    expect((await deploy([rollout('app', 'host: edge-1\n')])).outputs.status).toBe('succeeded');
    writeFileSync(join(at('edge-1').stacks, 'app', 'compose.yaml'), slow.replace('web:1', 'web:2'));
    const job = deploy(
      [
        rollout('gone', 'host: edge-1\nneeds: []\non_failure: continue\n'),
        rollout('free', 'host: edge-2\nneeds: []\n'),
        rollout('tied', 'host: edge-3\nneeds: [gone]\n'),
        rollout('last', 'host: nas\nneeds: [free]\n'),
      ],
      { timeout: '20s' },
    );
    for (;;) {
      const { stdout } = await at('edge-1').chatops(['logs']);
      if (stdout.includes('── up') && !stdout.includes('✓ rollout')) break;
      await sleep(50);
    }
    await at('edge-1').stop('SIGKILL');
    const { outputs, log } = await job;
    expect({ status: outputs.status, reason: outputs.reason }, log).toEqual({ status: 'refused', reason: 'timeout' });
    expect({ edge2: await says('edge-2'), edge3: await says('edge-3'), nas: await says('nas') }).toEqual({
      edge2: '2',
      edge3: '1',
      nas: '2',
    });
    // The host continues the run, and the next agent knows its outcome.
    await at('edge-1').start();
    expect((await at('edge-1').chatops(['logs', '-f'])).stdout).toContain('✓ succeeded');
  });

  it('a failure with "on_failure: rollback" undoes the graph on each host that had succeeded', async () => {
    prepare('edge-2', '2', false);
    const job = await deploy([
      backup('nas'),
      rollout('app', 'host: nas\n'),
      rollout('one', 'host: edge-1\nneeds: [app]\n'),
      rollout('two', 'host: edge-2\nneeds: [one]\non_failure: rollback\n'),
      rollout('tell', 'host: edge-3\nneeds: [two]\nif: failed\n'),
    ]);
    expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
      status: 'rolled-back',
      reason: 'service-unhealthy',
    });
    expect(await pages()).toEqual({ ...version1, 'edge-3': '2' });
    const [latest, before] = await runsOf('edge-1');
    expect({ latestOutcome: latest?.outcome, beforeOutcome: before?.outcome }).toEqual({
      latestOutcome: 'rolled-back',
      beforeOutcome: 'succeeded',
    });
    const order = [...job.log.matchAll(/^(\S+) \| .*undo of: rollout/gm)].map(([, host]) => host);
    expect(order).toEqual(['edge-1', 'nas']);
  });
});

describe('a run that the job does not wait for', () => {
  it('a run that outlives its job is cancelled and undone with the others if the file says "rollback"', {
    timeout: 180_000,
  }, async () => {
    const endless = '    depends_on: {first: {condition: service_completed_successfully}}\n';
    const first = `  first: {image: "chatops-test/web:2", pull_policy: never, init: true, command: [sleep, "600"], stop_grace_period: 0s}\n`;
    const compose = webStack('chatops-test/web:2', ports.get('edge-1') as number, `${health(true)}${endless}`);
    writeFileSync(join(at('edge-1').stacks, 'app', 'compose.yaml'), `name: app-edge-1\n${compose}${first}`);
    const late = rollout('one', 'host: edge-1\nneeds: [app]\non_failure: rollback\n').replace('30s', '10m');
    const job = await deploy([rollout('app', 'host: nas\n'), late], { timeout: '20s' });
    expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
      status: 'refused',
      reason: 'timeout',
    });
    expect(job.log).toMatch(/edge-1: cancelling the run \S+, which the job did not wait for\n.*edge-1: cancelled/s);
    expect(await pages(), job.log).toEqual(version1);
    expect((await runsOf('edge-1'))[0]?.outcome).toBe('cancelled');
  });
});

describe('a fleet', () => {
  it('a fleet rolls out in waves, the canary first', async () => {
    const job = await deploy([rollout('app', 'hosts: tag:edge\ncanary: 1\nmax_unavailable: 75%\n')]);
    expect(job.outputs.status, job.log).toBe('succeeded');
    expect(await pages()).toEqual({ nas: '1', 'edge-1': '2', 'edge-2': '2', 'edge-3': '2' });
    const order = [...job.log.matchAll(/^(edge-\d) \| (?:app: )?(rollout on app|✓ rollout on app)/gm)].map(
      ([, host, line]) => `${host} ${line?.startsWith('✓') ? 'ends' : 'begins'}`,
    );
    expect(order.slice(0, 2)).toEqual(['edge-1 begins', 'edge-1 ends']);
    expect(order.slice(2, 4).sort()).toEqual(['edge-2 begins', 'edge-3 begins']);
  });

  it('a fleet stops after the first failed wave', async () => {
    prepare('edge-2', '2', false);
    const job = await deploy([rollout('app', 'hosts: tag:edge\nmax_unavailable: 2\n'), rollout('nas', 'host: nas\n')]);
    expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
      status: 'rolled-back',
      reason: 'service-unhealthy',
    });
    expect(await pages()).toEqual({ ...version1, 'edge-1': '2' });
  });

  it('a fleet undoes its earlier waves too if its document says "rollback"', async () => {
    prepare('edge-2', '2', false);
    const job = await deploy([rollout('app', 'hosts: tag:edge\non_failure: rollback\n')]);
    expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
      status: 'rolled-back',
      reason: 'service-unhealthy',
    });
    expect(await pages()).toEqual(version1);
    expect((await runsOf('edge-1'))[0]?.outcome).toBe('rolled-back');
  });

  it('a fleet stays unchanged if its canary cannot be reached', async () => {
    await at('edge-1').stop();
    try {
      const job = await deploy([rollout('app', 'hosts: [edge-1, edge-2, edge-3]\ncanary: 1\nmax_unavailable: 2\n')]);
      expect({ status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
        status: 'refused',
        reason: 'agent-unreachable',
      });
      expect(await pages()).toEqual(version1);
    } finally {
      await at('edge-1').start();
    }
  });

  it('a fleet is planned on every host, with a digest for each', async () => {
    const fleet = [rollout('app', 'hosts: tag:edge\nmax_unavailable: 50%\n')];
    const plan = await deploy(fleet, { mode: 'plan' });
    expect(plan.outputs.status, plan.log).toBe('planned');
    expect(plan.outputs['plan-digest']?.split('\n')).toHaveLength(3);
    expect(await pages()).toEqual(version1);
    const confirmed = await deploy(fleet, { 'plan-digest': plan.outputs['plan-digest'] ?? '' });
    expect(confirmed.outputs.status, confirmed.log).toBe('succeeded');
  });

  it.each([
    ['hosts: tag:egde', 'host-unknown', 'tag:edge'],
    ['host: edge-9', 'host-unknown', 'edge-1'],
  ])('an unknown host or tag is refused before anything is sent: %s', async (more, code, near) => {
    const job = await deploy([rollout('app', `${more}\n`)]);
    expect({ status: job.outputs.status, reason: job.outputs.reason }).toEqual({ status: 'refused', reason: code });
    expect(job.log).toContain(near);
  });
});

describe('an agent that undoes a run', () => {
  const intent = { action: 'rollout' as const, stack: 'app', id: 'app' };
  const ask = async (name: Name, changes: object, intents: object[] = [intent], secret = keys.secret) => {
    const client = new Client(at(name).url);
    // Its commit is not one of the world's repository.
    const older = { allow_older: true as const };
    const body = { ...command(intents as never, older), id: randomUUID(), agent: name, ...changes };
    await client.send(body, secret);
    return client;
  };

  it('undoes only a finished run of the same intents and sender', async () => {
    const done = await ask('edge-1', {});
    const { run } = await done.receipt();
    expect(await says('edge-1')).toBe('2');
    const undo = { run, documents: [1] };
    const refused = async (changes: object, intents?: object[]) => (await ask('edge-1', changes, intents)).answer();
    expect(await refused({ undo: { ...undo, run: randomUUID() } })).toBe('run-unknown');
    expect(await refused({ undo }, [{ ...intent, timeout: '9s' }])).toBe('undo-not-possible');
    expect(await refused({ undo, approval: null })).toBe('approval-missing');
    const plan = await ask('edge-1', { type: 'plan' });
    const { run: planned } = await plan.receipt();
    expect(await refused({ undo: { ...undo, run: planned } })).toBe('undo-not-possible');
    expect(await says('edge-1')).toBe('2');

    const undone = await ask('edge-1', { undo });
    expect(await undone.receipt()).toMatchObject({ outcome: 'rolled-back', changed: false });
    expect(await says('edge-1')).toBe('1');
    // The second undo finds nothing left to undo.
    expect(await (await ask('edge-1', { undo })).receipt()).toMatchObject({ outcome: 'cancelled', changed: false });
    expect(await says('edge-1')).toBe('1');
  });

  it('refuses documents that need a missing document or each other', async () => {
    const scale = { action: 'scale', stack: 'app', service: 'web', replicas: 1, needs: ['data'] };
    const given = [
      { place: 0, name: 'test', document: 9, outcome: 'succeeded', intent: { action: 'backup', id: 'data' } },
    ];
    expect(await (await ask('edge-1', {}, [scale])).answer()).toBe('graph-invalid');
    const loop = [
      { ...scale, id: 'a', needs: ['b'] },
      { ...scale, id: 'b', needs: ['a'] },
    ];
    expect(await (await ask('edge-1', {}, loop)).answer()).toBe('graph-invalid');
    const intents = [{ name: 'test', document: 10, documents: 10, place: 1, intent: scale }];
    expect(await (await ask('edge-1', { given, intents })).answer()).toBe('accepted');
  });
});
