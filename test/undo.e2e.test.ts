import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import type { Finished } from './stand/runner.ts';
import { buildImage, docker, LABEL, World, webStack } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World({
    allow: [
      { actions: ['rollout', 'scale', 'rollback'], stacks: ['undo-*'], require_labels: [LABEL] },
      { actions: ['rollout'], stacks: ['strict-*'], require_labels: [LABEL], require_verify: true },
    ],
  }).start();
});
afterAll(() => world[Symbol.asyncDispose]());
// Later tests need the containers of undo-http.
afterEach(() => world.clear('undo-http'));

const image = (version: string) => `chatops-test/web:${version}`;
/** Healthcheck that only this version passes. */
const healthyAs = (version: string) =>
  `    healthcheck: {test: [CMD, sh, -c, 'test "$$(cat /www/index.html)" = ${version}'], interval: 1s, retries: 1, timeout: 10s}\n`;
const SIDE = `  side:\n    image: ${image('1')}\n    pull_policy: never\n    init: true\n    command: [sleep, "1000"]\n    stop_grace_period: 0s\n`;
const says = readPage;
const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
const idOf = (stack: string, service: string) =>
  docker(
    'ps',
    '--quiet',
    '--filter',
    `label=com.docker.compose.project=${stack}`,
    '--filter',
    `label=com.docker.compose.service=${service}`,
  ).trim();
const roll = (stack: string, more = '', action = 'rollout') => {
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: ${action}\nstack: ${stack}\ntimeout: 60s\n${more}`,
  });
  return world.deploy(merge, 'it');
};
/** Rolls the compose file out from the repository. */
const ship = (stack: string, compose: string, more = '') => {
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\nsource_dir: stacks/${stack}\ntimeout: 60s\n${more}`,
    [`stacks/${stack}/compose.yaml`]: compose,
  });
  return world.deploy(merge, 'it');
};

describe('a rollout whose check fails', () => {
  it('restores the image that a moved tag hides, and does not touch the other services', async () => {
    const port = await freePort();
    docker('tag', image('1'), 'chatops-test/moved:latest');
    world.stack('undo-tag', {
      'compose.yaml': `${webStack('chatops-test/moved:latest', port, healthyAs('1'))}${SIDE}`,
    });
    expect(outcome(await roll('undo-tag'))).toEqual({ status: 'succeeded', reason: '' });
    const side = idOf('undo-tag', 'side');
    docker('tag', image('2'), 'chatops-test/moved:latest');
    const job = await roll('undo-tag');
    expect(outcome(job), job.log).toEqual({ status: 'rolled-back', reason: 'service-unhealthy' });
    expect({ exit: job.code, page: await says(port), container: idOf('undo-tag', 'side') }).toEqual({
      exit: 1,
      page: '1',
      container: side,
    });
    expect(job.log).toContain('The previous version is running again.');
    const id = (name: string) => docker('image', 'inspect', '--format', '{{.Id}}', name).trim();
    expect(id('chatops-test/moved:latest')).toBe(id(image('1')));
    expect(await world.host.metrics()).toContain(
      'chatops_rollbacks_total{stack="undo-tag",cause="failure",outcome="succeeded"} 1',
    );
  });

  it('runs the previous version again after an edit of the compose file on the host, and keeps the edit', async () => {
    const port = await freePort();
    const folder = world.stack('undo-edit', { 'compose.yaml': webStack(image('1'), port, healthyAs('1')) });
    expect(outcome(await roll('undo-edit'))).toEqual({ status: 'succeeded', reason: '' });
    const edited = webStack(image('2'), port, healthyAs('1'));
    writeFileSync(join(folder, 'compose.yaml'), edited);
    const job = await roll('undo-edit');
    expect(outcome(job), job.log).toEqual({ status: 'rolled-back', reason: 'service-unhealthy' });
    expect({ page: await says(port), content: readFileSync(join(folder, 'compose.yaml'), 'utf8') }).toEqual({
      page: '1',
      content: edited,
    });
  });

  it('keeps the failed version if the intent says "on_failure: stop"', async () => {
    const port = await freePort();
    world.stack('undo-stop');
    await ship('undo-stop', webStack(image('1'), port, healthyAs('1')));
    const job = await ship('undo-stop', webStack(image('2'), port, healthyAs('1')), 'on_failure: stop\n');
    expect({ ...outcome(job), changed: job.outputs.changed, page: await says(port) }).toEqual({
      status: 'failed',
      reason: 'service-unhealthy',
      changed: 'true',
      page: '2',
    });
  });

  it('restores the number of replicas when the check of a scale fails', async () => {
    const web = `services:\n  web:\n    image: ${image('1')}\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n`;
    world.stack('undo-scale', { 'compose.yaml': web });
    await roll('undo-scale');
    const job = await roll(
      'undo-scale',
      'service: web\nreplicas: 0\nverify: {tcp: {address: "web:80", retries: 0}}\n',
      'scale',
    );
    expect(outcome(job), job.log).toEqual({ status: 'rolled-back', reason: 'verify-failed' });
    expect(idOf('undo-scale', 'web').split('\n')).toHaveLength(1);
  });
});

describe('verify', () => {
  it('verifies a rollout by its answer, and rolls it back if the answer is wrong', async () => {
    const port = await freePort();
    world.stack('undo-http');
    const check = (body: string) =>
      `verify:\n  settle: 1s\n  tcp: {address: "127.0.0.1:${port}"}\n  http:\n    - {url: "http://127.0.0.1:${port}/", body: "${body}", retries: 2}\n    - {url: "http://web/", status: [200, 204]}\n`;
    const first = await ship('undo-http', webStack(image('1'), port), check('1'));
    expect(outcome(first), first.log).toEqual({ status: 'succeeded', reason: '' });
    expect(first.log).toContain(`http://127.0.0.1:${port}/: as expected`);
    const second = await ship('undo-http', webStack(image('2'), port), check('1'));
    expect(outcome(second), second.log).toEqual({ status: 'rolled-back', reason: 'verify-failed' });
    expect(second.log).toMatch(/its answer does not contain "1": "2\\n" \(3 tries\)/);
    expect(await says(port)).toBe('1');
  });

  it('fails "verify: healthy" for a service without a health check', async () => {
    world.stack('undo-checked', { 'compose.yaml': webStack(image('1'), await freePort()) });
    expect(outcome(await roll('undo-checked', 'verify: {healthy: [web]}\n'))).toEqual({
      status: 'failed',
      reason: 'health-check-missing',
    });
  });

  it('detects a container that exits while the rollout settles', async () => {
    const web = `services:\n  web:\n    image: ${image('1')}\n    pull_policy: never\n    restart: always\n    command: [sleep, "4"]\n    init: true\n`;
    world.stack('undo-settle', { 'compose.yaml': web });
    expect(outcome(await roll('undo-settle', 'verify: {settle: 10s}\n'))).toEqual({
      status: 'failed',
      reason: 'service-exited',
    });
  });

  it.each([
    ['http: {url: "http://192.0.2.1/"}'],
    ['tcp: {address: "[2001:db8::1]:22"}'],
    ['http: {url: "http://169.254.169.254/latest/meta-data"}'],
  ])('refuses to verify a forbidden address: %s', async verify => {
    const job = await roll('undo-http', `verify: {${verify}}\n`);
    expect(outcome(job)).toEqual({ status: 'refused', reason: 'verify-address-not-allowed' });
  });

  it('reports a failed undo if the check fails for the previous version too', async () => {
    const job = await roll('undo-http', 'verify: {http: {url: "http://nosuchservice/", retries: 0}}\n');
    expect(outcome(job), job.log).toEqual({ status: 'failed', reason: 'undo-failed' });
    expect(job.log).toContain(
      '"verify again: http://nosuchservice/" failed. Undo steps that succeeded before it: "put back',
    );
  });

  it('refuses a rollout without a check if the host requires one', async () => {
    world.stack('strict-web', { 'compose.yaml': webStack(image('1'), await freePort()) });
    expect(outcome(await roll('strict-web'))).toEqual({ status: 'refused', reason: 'verify-required' });
    expect(outcome(await roll('strict-web', 'verify: {settle: 1s}\n'))).toEqual({ status: 'succeeded', reason: '' });
  });
});

describe('a rollback on request', () => {
  it('restores the files and images of the previous release, or of the release of any run', async () => {
    const port = await freePort();
    world.stack('undo-back', { '.env': 'MINE=1\n' });
    for (const version of ['1', '2', '3']) buildImage(`chatops-test/back:${version}`, `back ${version}`);
    const runs: string[] = [];
    for (const version of ['1', '2', '3']) {
      const job = await ship('undo-back', webStack(`chatops-test/back:${version}`, port));
      expect(outcome(job), job.log).toEqual({ status: 'succeeded', reason: '' });
      runs.push(job.outputs['run-id'] ?? '');
    }
    // A rollout that changes nothing adds no release.
    await roll('undo-back');
    const compose = () => readFileSync(join(world.host.stacks, 'undo-back', 'compose.yaml'), 'utf8');
    const back = await roll('undo-back', '', 'rollback');
    expect({ ...outcome(back), page: await says(port) }, back.log).toEqual({
      status: 'succeeded',
      reason: '',
      page: 'back 2',
    });
    expect(compose()).toContain('back:2');
    await roll('undo-back', '', 'rollback');
    expect(await says(port)).toBe('back 1');
    const forth = await roll('undo-back', `to: ${runs[2]}\n`, 'rollback');
    expect({ ...outcome(forth), page: await says(port) }, forth.log).toEqual({
      status: 'succeeded',
      reason: '',
      page: 'back 3',
    });
    expect(compose()).toContain('back:3');
    expect(await world.host.metrics()).toContain(
      'chatops_rollbacks_total{stack="undo-back",cause="request",outcome="succeeded"} 3',
    );

    // "docker image prune --all" removes tags of unused images, but not the kept tags.
    docker('rmi', 'chatops-test/back:1');
    expect(outcome(await roll('undo-back', `to: ${runs[0]}\n`, 'rollback'))).toEqual({
      status: 'succeeded',
      reason: '',
    });
    expect(await says(port)).toBe('back 1');

    const kept = docker(
      'image',
      'ls',
      '--format',
      '{{.Repository}}:{{.Tag}}',
      '--filter',
      'reference=chatops-kept/undo-back',
    );
    const id = docker('image', 'inspect', '--format', '{{.Id}}', 'chatops-test/back:2').trim();
    docker(
      'rmi',
      '--force',
      ...kept
        .trim()
        .split('\n')
        .filter(tag => tag.endsWith(id.slice(7, 19))),
      'chatops-test/back:2',
    );
    const gone = await roll('undo-back', `to: ${runs[1]}\n`, 'rollback');
    expect({ ...outcome(gone), changed: gone.outputs.changed, page: await says(port) }).toEqual({
      status: 'failed',
      reason: 'image-gone',
      changed: 'false',
      page: 'back 1',
    });
    const unknown = await roll('undo-back', 'to: 00000000-0000\n', 'rollback');
    expect(outcome(unknown)).toEqual({ status: 'failed', reason: 'release-unknown' });
    expect(unknown.log).toContain(runs[1]);
  });

  it('rolls back to the version that ran before the first rollout', async () => {
    const port = await freePort();
    docker('tag', image('1'), 'chatops-test/byhand:latest');
    const folder = world.stack('undo-first', { 'compose.yaml': webStack('chatops-test/byhand:latest', port) });
    docker('compose', '--project-directory', folder, 'up', '--detach');
    docker('tag', image('2'), 'chatops-test/byhand:latest');
    expect(outcome(await roll('undo-first'))).toEqual({ status: 'succeeded', reason: '' });
    expect(await says(port)).toBe('2');
    const plan = await world.deploy(
      world.merge({ 'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollback\nstack: undo-first\n` }),
      'it',
      { inputs: { mode: 'plan' } },
    );
    expect(plan.log).toMatch(
      /web: recreate \(image chatops-test\/byhand:latest \w{12} → chatops-test\/byhand:latest \w{12}\)/,
    );
    expect(outcome(await roll('undo-first', '', 'rollback'))).toEqual({ status: 'succeeded', reason: '' });
    expect(await says(port)).toBe('1');
  });

  it('fails a rollback of a stack without a release', async () => {
    world.stack('undo-none', { 'compose.yaml': webStack(image('1'), await freePort()) });
    expect(outcome(await roll('undo-none', '', 'rollback'))).toEqual({ status: 'failed', reason: 'release-unknown' });
  });
});
