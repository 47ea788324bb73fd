import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../protocol/keys.ts';
import { pullRequestEvent } from './doubles/github-events.ts';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import type { Finished, Job } from './stand/runner.ts';
import { docker, LABEL, type Merge, untilLog, World, webStack } from './stand/world.ts';

const image = (version: string) => `chatops-test/web:${version}`;
const intent = (stack: string, more = '') => `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n${more}`;
const HEALTH = (test: string) => `    healthcheck: {test: [CMD, ${test}], interval: 1s, retries: 2, timeout: 10s}\n`;

let world: World;
beforeAll(async () => {
  world = await new World({
    allow: [
      { actions: ['rollout', 'scale', 'backup'], stacks: ['stack-*'], require_labels: [LABEL] },
      { actions: ['rollout'], stacks: ['stack-nightly'], without_approval: ['workflow_dispatch', 'schedule'] },
    ],
  }).start();
});
afterAll(() => world[Symbol.asyncDispose]());

const says = readPage;
/** Returns a line of `docker ps` for each running container of a stack. */
const containers = (stack: string, ...args: string[]) =>
  docker('ps', '--filter', `label=com.docker.compose.project=${stack}`, ...args)
    .split('\n')
    .filter(Boolean);
const deploy = (merge: Merge, changes: Partial<Job> = {}, name = 'it') => world.deploy(merge, name, changes);
const files = (stack: string, compose: string, more: Record<string, string | null> = {}) => ({
  'chatops/intents/it.yaml': intent(stack, `source_dir: stacks/${stack}\ntimeout: 30s\n`),
  [`stacks/${stack}/compose.yaml`]: compose,
  ...more,
});
const expectRefused = (job: Finished, reason: string) => {
  expect(job.outputs.reason, job.log).toBe(reason);
  expect(job.code).toBe(1);
  expect(job.log).toMatch(/::error title=\w[^:]*::.{20}/);
};

describe('a merge', () => {
  it('a merge of a labeled pull request rolls out the stack, ships its files and streams the log', async () => {
    const port = await freePort();
    const folder = world.stack('stack-web', { '.env': 'SECRET=host only\n', 'notes.txt': 'mine\n' });
    const first = await deploy(
      world.merge(files('stack-web', webStack(image('1'), port), { 'stacks/stack-web/conf/a.conf': 'a\n' })),
    );
    expect(first.outputs).toMatchObject({ status: 'succeeded', changed: 'true', reason: '' });
    expect({ exit: first.code, page: await says(port) }).toEqual({ exit: 0, page: '1' });
    expect(first.log).toContain('::group::up');
    expect(first.log).toMatch(/whitebox \| .*Container stack-web-web-1 {2}Started/);
    expect(first.summary).toMatch(/\| web \| chatops-test\/web:1 \| none \| sha256:[0-9a-f]{12} \|/);

    const second = await deploy(
      world.merge(
        files('stack-web', webStack(image('2'), port), {
          'stacks/stack-web/conf/a.conf': null,
          'stacks/stack-web/b.conf': 'b\n',
        }),
      ),
    );
    expect({ status: second.outputs.status, page: await says(port) }).toEqual({ status: 'succeeded', page: '2' });
    expect({
      removedFileExists: existsSync(join(folder, 'conf/a.conf')),
      addedFile: readFileSync(join(folder, 'b.conf'), 'utf8'),
    }).toEqual({ removedFileExists: false, addedFile: 'b\n' });
    expect({
      env: readFileSync(join(folder, '.env'), 'utf8'),
      notes: readFileSync(join(folder, 'notes.txt'), 'utf8'),
    }).toEqual({ env: 'SECRET=host only\n', notes: 'mine\n' });

    const nothing = await deploy(world.merge({ 'README.md': 'words\n' }));
    expect(nothing.outputs).toMatchObject({ status: 'succeeded', changed: 'false' });
  });

  it('the pull_request event deploys a merge too, and an intents file may have several documents', async () => {
    const [one, two] = [await freePort(), await freePort()];
    world.stack('stack-a', { 'compose.yaml': webStack(image('1'), one) });
    world.stack('stack-b', { 'compose.yaml': webStack(image('2'), two) });
    const merge = world.merge({ 'chatops/intents/both.yaml': `${intent('stack-a')}---\n${intent('stack-b')}` });
    const pull = world.github.pulls.get(merge.number);
    if (!pull) throw new Error('no pull request');
    const job = await deploy(merge, { event: 'pull_request', payload: pullRequestEvent('org/homelab', pull) }, 'both');
    expect({ status: job.outputs.status, pageOne: await says(one), pageTwo: await says(two) }).toEqual({
      status: 'succeeded',
      pageOne: '1',
      pageTwo: '2',
    });
    expect(JSON.parse(job.outputs.result ?? '').receipts[0].documents).toHaveLength(2);
  });

  it('a rollout of one service leaves the others unchanged, and a rollout of the stack removes orphans', async () => {
    const port = await freePort();
    const other = `  side:\n    image: ${image('1')}\n    pull_policy: never\n    init: true\n    command: [sleep, "1000"]\n    stop_grace_period: 0s\n`;
    world.stack('stack-two', { 'compose.yaml': webStack(image('1'), port, other) });
    const merge = world.merge({
      'chatops/intents/web.yaml': intent('stack-two', 'service: web\n'),
      'chatops/intents/all.yaml': intent('stack-two'),
    });
    const job = await deploy(merge, {}, 'web');
    expect({ status: job.outputs.status, page: await says(port) }).toEqual({ status: 'succeeded', page: '1' });
    const services = () => containers('stack-two', '--format', '{{.Label "com.docker.compose.service"}}').sort();
    expect(services()).toEqual(['web']);
    expect((await deploy(merge, {}, 'all')).outputs.status).toBe('succeeded');
    expect(services()).toEqual(['side', 'web']);
    writeFileSync(join(world.host.stacks, 'stack-two', 'compose.yaml'), webStack(image('1'), port));
    const plan = await deploy(merge, { inputs: { mode: 'plan' } }, 'all');
    expect(plan.log).toContain('side: remove (no longer in the compose file)');
    expect((await deploy(merge, {}, 'all')).outputs.status).toBe('succeeded');
    expect(services()).toEqual(['web']);
  });
});

describe('a scale', () => {
  it('scales one service up, down and to zero without a change to the others', async () => {
    const web = `services:\n  web:\n    image: ${image('1')}\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n  side:\n    image: ${image('1')}\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n`;
    world.stack('stack-scale', { 'compose.yaml': web });
    const merge = world.merge({
      'chatops/intents/scale.yaml': `label_required: ${LABEL}\naction: scale\nstack: stack-scale\nservice: web\nreplicas: "{{ params.n }}"\nparams:\n  n: {type: number}\n`,
      'chatops/intents/all.yaml': intent('stack-scale'),
    });
    await deploy(merge, {}, 'all');
    const ids = (service: string) =>
      containers('stack-scale', '--quiet', '--filter', `label=com.docker.compose.service=${service}`);
    const side = ids('side');
    for (const n of [3, 1, 0]) {
      const job = await deploy(merge, { inputs: { params: `n=${n}` } }, 'scale');
      expect({
        status: job.outputs.status,
        containers: ids('web').length,
        refused: job.log.includes('refused'),
      }).toEqual({ status: 'succeeded', containers: n, refused: false });
    }
    expect(ids('side')).toEqual(side);
    expect((await deploy(merge, { inputs: { mode: 'plan', params: 'n=2' } }, 'scale')).log).toContain(
      'web: scale (containers 0 → 2)',
    );
  });
});

describe('dry run and plan', () => {
  it('a dry run lists every step and starts nothing; a plan names each service to recreate and why', async () => {
    const port = await freePort();
    world.stack('stack-look', {
      'compose.yaml': webStack(image('1'), port, '    env_file: app.env\n'),
      'app.env': 'A=1\n',
    });
    const merge = world.merge({ 'chatops/intents/look.yaml': intent('stack-look') });
    const dry = await deploy(merge, { inputs: { mode: 'dry-run' } }, 'look');
    expect(dry.outputs).toMatchObject({ status: 'planned', changed: 'false' });
    expect(dry.log).toMatch(/\[DRY-RUN\] {3}up: docker compose .* up --detach/);
    expect(dry.log).not.toContain('::group::');
    expect((await deploy(merge, { inputs: { mode: 'plan' } }, 'look')).log).toContain(
      'web: create (image chatops-test/web:1',
    );
    await deploy(merge, {}, 'look');
    expect((await deploy(merge, { inputs: { mode: 'plan' } }, 'look')).log).toContain('Nothing would change.');
    const changed = webStack(image('2'), port, '    environment: {TOKEN: hunter2-secret}\n');
    writeFileSync(join(world.host.stacks, 'stack-look', 'compose.yaml'), changed);
    const plan = await deploy(merge, { inputs: { mode: 'plan' } }, 'look');
    expect(plan.log).toContain('web: recreate (image chatops-test/web:1 → chatops-test/web:2; environment TOKEN)');
    expect(plan.log).not.toContain('hunter2');
    expect(await says(port)).toBe('1');
  });
});

describe('a rollout that fails', () => {
  it('restores the files and keeps the old version if a compose file cannot be parsed', async () => {
    const port = await freePort();
    const folder = world.stack('stack-broken');
    const good = webStack(image('1'), port);
    await deploy(world.merge(files('stack-broken', good)));
    const job = await deploy(
      world.merge(files('stack-broken', 'services: [broken\n', { 'stacks/stack-broken/new.txt': 'x' })),
    );
    expectRefused(job, 'compose-invalid');
    expect(job.outputs).toMatchObject({ status: 'failed', changed: 'false' });
    expect({
      compose: readFileSync(join(folder, 'compose.yaml'), 'utf8'),
      newFileExists: existsSync(join(folder, 'new.txt')),
    }).toEqual({ compose: good, newFileExists: false });
    expect(await says(port)).toBe('1');
  });

  it('keeps the old version if an image cannot be pulled', async () => {
    const port = await freePort();
    world.stack('stack-pull');
    await deploy(world.merge(files('stack-pull', webStack(image('1'), port))));
    const gone = webStack('127.0.0.1:1/nobody/nothing:9', port).replace('pull_policy: never', 'pull_policy: always');
    const job = await deploy(world.merge(files('stack-pull', gone)));
    expectRefused(job, 'pull-failed');
    expect({ changed: job.outputs.changed, page: await says(port) }).toEqual({ changed: 'false', page: '1' });
  });

  it('rolls back to the old files and the old version if the new version stays unhealthy', async () => {
    const port = await freePort();
    world.stack('stack-sick');
    await deploy(world.merge(files('stack-sick', webStack(image('1'), port, HEALTH('"true"')))));
    const job = await deploy(world.merge(files('stack-sick', webStack(image('2'), port, HEALTH('"false"')))));
    expectRefused(job, 'service-unhealthy');
    expect({ status: job.outputs.status, page: await says(port) }).toEqual({ status: 'rolled-back', page: '1' });
  });

  it('accepts a one-shot service that exits with 0 and fails one that exits with 1', async () => {
    const oneShot = (command: string) =>
      `services:\n  init:\n    image: ${image('1')}\n    pull_policy: never\n    command: ["${command}"]\n`;
    world.stack('stack-once', { 'compose.yaml': oneShot('true') });
    const once = `${intent('stack-once')}verify: { settle: 2s }\n`;
    const merge = world.merge({ 'chatops/intents/once.yaml': once });
    expect((await deploy(merge, {}, 'once')).outputs.status).toBe('succeeded');
    writeFileSync(join(world.host.stacks, 'stack-once', 'compose.yaml'), oneShot('false'));
    expectRefused(await deploy(merge, {}, 'once'), 'service-exited');
  });

  it('refuses files that would replace the .env of the host', async () => {
    const folder = world.stack('stack-env', { '.env': 'SECRET=x\n' });
    const job = await deploy(
      world.merge(files('stack-env', webStack(image('1'), 1), { 'stacks/stack-env/.env': 'SECRET=theirs\n' })),
    );
    expectRefused(job, 'env-file-not-ours');
    expect({
      env: readFileSync(join(folder, '.env'), 'utf8'),
      composeExists: existsSync(join(folder, 'compose.yaml')),
    }).toEqual({ env: 'SECRET=x\n', composeExists: false });
  });
});

describe('a deployment without its requirements is refused and leaves the host unchanged', () => {
  it.each<[string, (merge: Merge) => Promise<Partial<Job>>]>([
    ['signature-invalid', async () => ({ inputs: { 'signing-key': generateKey().secret } })],
    ['agent-key-mismatch', async () => ({ inputs: { 'agent-key': generateKey().public } })],
    [
      'agent-unreachable',
      async () => ({ inputs: { agent: `ws://127.0.0.1:${await freePort()}`, 'connect-timeout': '100ms' } }),
    ],
    ['approval-missing', async () => ({ event: 'workflow_dispatch', payload: {} })],
    [
      'forced-push',
      async ({ before, sha }) => ({
        payload: { ref: 'refs/heads/main', before, after: sha, forced: true, repository: { default_branch: 'main' } },
      }),
    ],
    ['trigger-pull-request-target', async () => ({ event: 'pull_request_target' })],
    ['merge-group-validate-only', async () => ({ event: 'merge_group' })],
    ['commit-not-checked-out', async () => ({ event: 'workflow_dispatch', payload: {}, sha: 'e'.repeat(40) })],
    ['input-invalid', async () => ({ inputs: { mode: 'yolo' } })],
  ])('refuses a deployment with %s and starts no run', async (reason, changes) => {
    const merge = world.merge(files('stack-web', 'services: {}\n'));
    const before = (await world.host.audit()).filter(({ event }) => event === 'run-begun').length;
    expectRefused(await deploy(merge, await changes(merge)), reason);
    expect((await world.host.audit()).filter(({ event }) => event === 'run-begun').length).toBe(before);
  });

  it.each([
    ['stack-not-allowed', 'vault', ''],
    ['stack-unknown', 'stack-absent', ''],
    ['path-outside', 'stack-web', 'compose: /etc/passwd\n'],
    ['intent-invalid', 'stack-web', 'servce: x\n'],
    ['source-dir-missing', 'stack-web', 'source_dir: nowhere\n'],
  ])('refuses an intent with %s', async (reason, stack, more) => {
    const job = await deploy(world.merge({ 'chatops/intents/it.yaml': intent(stack, more) }));
    expectRefused(job, reason);
    if (reason === 'intent-invalid')
      expect(job.log).toContain('::error file=chatops/intents/it.yaml,line=4,col=1,title=unknown-key::');
  });

  it('refuses a backup to a destination that the host does not allow', async () => {
    const source = join(world.host.stacks, 'stack-web');
    const backup = `label_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nstack: stack-web\nsource: ${source}\ndestination: /mnt/backup\n`;
    expectRefused(await deploy(world.merge({ 'chatops/intents/it.yaml': backup })), 'path-outside');
  });

  it('refuses a missing intent and suggests the nearest name', async () => {
    const job = await deploy(
      world.merge({ 'chatops/intents/rollout_web.yaml': intent('stack-web') }),
      {},
      'rolout_web',
    );
    expectRefused(job, 'intent-not-found');
    expect(job.log).toContain('rollout_web');
  });
});

describe('other ways to start', () => {
  it('workflow_dispatch deploys a merged pull request, or needs none if the host says so for the event', async () => {
    const port = await freePort();
    world.stack('stack-nightly', { 'compose.yaml': webStack(image('1'), port) });
    const merge = world.merge({ 'chatops/intents/it.yaml': intent('stack-nightly') });
    const dispatch = { event: 'workflow_dispatch', payload: { repository: { default_branch: 'main' } } };
    expect(
      (await deploy(merge, { ...dispatch, inputs: { 'pull-request': String(merge.number) } })).outputs.status,
    ).toBe('succeeded');
    expect((await deploy(merge, dispatch)).outputs).toMatchObject({ status: 'succeeded', changed: 'false' });
    expect((await deploy(merge, { ...dispatch, event: 'schedule' })).outputs.status).toBe('succeeded');
  });

  it('mode validate needs neither agent nor key nor GitHub', async () => {
    const merge = world.merge({ 'chatops/intents/it.yaml': intent('stack-web') });
    const inputs = { mode: 'validate', agent: '', 'agent-key': '', 'signing-key': '', 'github-token': '' };
    const job = await deploy(merge, { event: 'merge_group', payload: {}, inputs });
    expect({ exit: job.code, status: job.outputs.status }).toEqual({ exit: 0, status: 'valid' });
    expect(job.log).toContain('✓ chatops/intents/it.yaml (doc 1/1): rollout on stack-web');
    const wrong = await deploy(world.merge({ 'chatops/intents/it.yaml': 'action: rollout\n' }), { inputs }, '*');
    expect({ exit: wrong.code, status: wrong.outputs.status, reason: wrong.outputs.reason }).toEqual({
      exit: 1,
      status: 'invalid',
      reason: 'intent-invalid',
    });
    world.merge({ 'chatops/intents/it.yaml': intent('stack-web') });
  });
});

describe('two deployments at the same time', () => {
  it('a second deployment of a stack waits and names the run that holds the stack', async () => {
    const port = await freePort();
    const slow = webStack(
      image('1'),
      port,
      `    healthcheck: {test: [CMD, sh, -c, "test -e /ok || { touch /ok; exit 1; }"], interval: 2s, retries: 5}\n`,
    );
    world.stack('stack-queue', { 'compose.yaml': slow });
    const merge = world.merge({ 'chatops/intents/it.yaml': intent('stack-queue') });
    const first = world.begin(merge, 'it');
    await untilLog(first, 'wait until healthy');
    const second = await deploy(merge);
    expect((await first.finished).outputs.status).toBe('succeeded');
    expect(second.outputs.status).toBe('succeeded');
    expect(second.log).toMatch(/waiting for run [0-9a-f-]{36}, which holds stack stack-queue/);
  });
});

describe('a job that is killed', () => {
  it('the host finishes the run of a killed job, and the post step logs its outcome', async () => {
    const port = await freePort();
    const slow = webStack(image('1'), port, HEALTH('"true"'));
    world.stack('stack-killed', { 'compose.yaml': slow });
    const merge = world.merge({ 'chatops/intents/it.yaml': intent('stack-killed') });
    const job = world.begin(merge, 'it');
    await untilLog(job, '::group::up');
    job.child.kill('SIGKILL');
    const { state } = await job.finished;
    const post = await world.post(merge, state);
    expect(post.log).toMatch(/The run [0-9a-f-]{36} ended on the host: succeeded/);
    expect(await says(port)).toBe('1');
  });
});

describe('the host', () => {
  it('the agent is ready, and promtool accepts its metrics', async () => {
    expect((await fetch(`${world.host.url.replace('ws', 'http')}/readyz`)).status).toBe(200);
    const metrics = await world.host.metrics();
    execFileSync('promtool', ['check', 'metrics'], { input: metrics });
    expect(metrics).toMatch(
      /chatops_intent_requests_total\{intent_name="it",action="rollout",stack="stack-web",dry_run="false"\} [1-9]/,
    );
    expect(metrics).toContain('chatops_runs_in_progress 0');
  });

  it('the audit log names each step with its intent, address, key and command line', async () => {
    const up = (await world.host.audit()).find(({ event, step }) => event === 'step-started' && step === 'up');
    expect(up).toMatchObject({
      intent: 'it',
      action: 'rollout',
      stack: 'stack-web',
      address: '127.0.0.1',
      key: world.host.keys.id,
    });
    expect(up?.argv).toContain('up');
    expect((await world.host.audit()).find(({ event }) => event === 'run-ended')).toMatchObject({
      outcome: 'succeeded',
      events_digest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });
});
