import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import type { Finished } from './stand/runner.ts';
import { docker, LABEL, World } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World({
    config: { compose: { grants: [{ stack: 'canary-no', allow: ['host-namespaces'] }] } },
  }).start();
});
afterAll(() => world[Symbol.asyncDispose]());

const healthyAs = (versions: string) =>
  `    healthcheck: {test: [CMD, sh, -c, 'case "$$(cat /www/index.html)" in ${versions}) exit 0;; esac; exit 1'], interval: 1s, retries: 1, timeout: 10s}\n`;
const web = (version: string, more = '') =>
  `  web:\n    image: chatops-test/web:${version}\n    pull_policy: never\n    init: true\n    stop_grace_period: 2s\n${more}`;
const ship = (stack: string, compose: string, more: string): Promise<Finished> => {
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\nsource_dir: stacks/${stack}\ntimeout: 60s\n${more}`,
    [`stacks/${stack}/compose.yaml`]: compose,
  });
  return world.deploy(merge, 'it');
};
const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
const containers = (project: string, service = 'web') =>
  docker(
    'ps',
    '--all',
    '--quiet',
    '--no-trunc',
    '--filter',
    `label=com.docker.compose.project=${project}`,
    '--filter',
    `label=com.docker.compose.service=${service}`,
  )
    .split('\n')
    .filter(Boolean);
const says = readPage;

/** Polls each running container of the stack, as a proxy would; `stop` returns the answers. */
function startPolling(stack: string): { stop: () => Promise<string[]> } {
  const answers: string[] = [];
  let stopped = false;
  const addresses = () => {
    const ids = docker('ps', '--quiet', '--filter', `label=com.docker.compose.project=${stack}`)
      .split('\n')
      .filter(Boolean);
    try {
      const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
      return docker('inspect', '--format', format, ...ids)
        .split('\n')
        .filter(Boolean);
    } catch {
      // A container was removed between the list and the inspection.
      return undefined;
    }
  };
  const loop = (async () => {
    while (!stopped) {
      const all = addresses();
      if (!all) continue;
      const responses = await Promise.allSettled(
        all.map(async address => (await fetch(`http://${address}/`, { signal: AbortSignal.timeout(3_000) })).text()),
      );
      const texts = responses.flatMap(response => (response.status === 'fulfilled' ? [response.value.trim()] : []));
      answers.push(...(texts.length > 0 ? texts : ['DOWN']));
      await sleep(20);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
      return answers;
    },
  };
}

describe('strategy: canary', () => {
  const canary = 'service: web\nstrategy: canary\nverify: {http: {url: "http://web/"}}\n';
  const stack = (version: string) => `services:\n${web(version, healthyAs('1|2'))}`;

  it('replaces a service of several containers by canary, and the service answers all the time', async () => {
    world.stack('canary-web');
    expect(outcome(await ship('canary-web', stack('1'), ''))).toEqual({ status: 'succeeded', reason: '' });
    const scale = world.merge({
      'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: scale\nstack: canary-web\nservice: web\nreplicas: 2\n`,
    });
    expect(outcome(await world.deploy(scale, 'it'))).toEqual({ status: 'succeeded', reason: '' });
    const old = containers('canary-web');
    const polling = startPolling('canary-web');
    const job = await ship('canary-web', stack('2'), canary);
    const answers = await polling.stop();
    expect(outcome(job), job.log).toEqual({ status: 'succeeded', reason: '' });
    expect(answers).not.toContain('DOWN');
    expect(new Set(answers)).toEqual(new Set(['1', '2']));
    const now = containers('canary-web');
    expect({ containersCount: now.length, anyOldContainer: now.some(id => old.includes(id)) }).toEqual({
      containersCount: 2,
      anyOldContainer: false,
    });
  });

  it('keeps the old containers unchanged and answering when a canary fails', async () => {
    const old = containers('canary-web');
    const polling = startPolling('canary-web');
    const job = await ship('canary-web', stack('3'), canary);
    const answers = await polling.stop();
    expect(outcome(job), job.log).toEqual({ status: 'rolled-back', reason: 'service-unhealthy' });
    expect({ exit: job.code, containers: containers('canary-web').sort() }).toEqual({
      exit: 1,
      containers: old.sort(),
    });
    expect(answers).not.toContain('DOWN');
    expect(answers).toContain('2');
    expect(readFileSync(join(world.host.stacks, 'canary-web', 'compose.yaml'), 'utf8')).toContain('web:2');
  });

  it.each([
    ['a fixed port', '    ports: ["127.0.0.1:18999:80"]\n', 'the published port 18999 of web is fixed'],
    ['a container_name', '    container_name: canary-fixed\n', 'the container_name canary-fixed of web is fixed'],
    ['the host’s network', '    network_mode: host\n', 'web is in the host’s network'],
  ])('fails a canary of a service with %s before anything changes', async (_, more, why) => {
    world.stack('canary-no');
    const job = await ship('canary-no', `services:\n${web('1', more)}`, canary);
    expect({ ...outcome(job), changed: job.outputs.changed }).toEqual({
      status: 'failed',
      reason: 'strategy-impossible',
      changed: 'false',
    });
    expect(job.log).toContain(why);
    expect(containers('canary-no')).toEqual([]);
  });
});

describe('strategy: blue-green', () => {
  it('verifies the green project before it gets the published port, and stops the blue project', async () => {
    const port = await freePort();
    const stack = (version: string) =>
      `services:\n${web(version, `    ports: ["127.0.0.1:${port}:80"]\n${healthyAs('1|2')}`)}`;
    const intent = `strategy: blue-green\nswitch: {service: web}\nverify: {http: {url: "http://web/"}}\n`;
    world.stack('bg-port');
    expect(outcome(await ship('bg-port', stack('1'), intent))).toEqual({ status: 'succeeded', reason: '' });
    expect({ page: await says(port), containersCount: containers('bg-port').length }).toEqual({
      page: '1',
      containersCount: 1,
    });
    const second = await ship('bg-port', stack('2'), intent);
    expect(outcome(second), second.log).toEqual({ status: 'succeeded', reason: '' });
    expect({
      page: await says(port),
      blueContainersCount: containers('bg-port').length,
      greenContainersCount: containers('bg-port-green').length,
    }).toEqual({ page: '2', blueContainersCount: 0, greenContainersCount: 1 });

    const green = containers('bg-port-green');
    const third = await ship('bg-port', stack('3'), intent);
    expect(outcome(third), third.log).toEqual({ status: 'rolled-back', reason: 'service-unhealthy' });
    expect({
      page: await says(port),
      blueContainers: containers('bg-port'),
      greenContainers: containers('bg-port-green'),
    }).toEqual({ page: '2', blueContainers: [], greenContainers: green });

    // A plain rollout afterwards applies to the project that serves.
    expect(outcome(await ship('bg-port', stack('1'), ''))).toEqual({ status: 'succeeded', reason: '' });
    expect({
      page: await says(port),
      blueContainersCount: containers('bg-port').length,
      greenContainersCount: containers('bg-port-green').length,
    }).toEqual({ page: '1', blueContainersCount: 0, greenContainersCount: 1 });
  });

  it('switches from blue to green by a file that a proxy reads', async () => {
    const intent = `strategy: blue-green\nswitch: {file: upstream.conf, text: "server $PROJECT-web-1;\\n"}\n`;
    const stack = (version: string) => `services:\n${web(version, healthyAs('1|2'))}`;
    const folder = world.stack('bg-file');
    const file = () => readFileSync(join(folder, 'upstream.conf'), 'utf8');
    expect(outcome(await ship('bg-file', stack('1'), intent))).toEqual({ status: 'succeeded', reason: '' });
    expect(file()).toBe('server bg-file-web-1;\n');
    const second = await ship('bg-file', stack('2'), intent);
    expect(outcome(second), second.log).toEqual({ status: 'succeeded', reason: '' });
    expect({
      file: file(),
      blueContainersCount: containers('bg-file').length,
      greenContainersCount: containers('bg-file-green').length,
    }).toEqual({ file: 'server bg-file-green-web-1;\n', blueContainersCount: 0, greenContainersCount: 1 });
    const third = await ship('bg-file', stack('3'), intent);
    expect(outcome(third), third.log).toEqual({ status: 'rolled-back', reason: 'service-unhealthy' });
    expect({
      file: file(),
      blueContainersCount: containers('bg-file').length,
      greenContainersCount: containers('bg-file-green').length,
    }).toEqual({ file: 'server bg-file-green-web-1;\n', blueContainersCount: 0, greenContainersCount: 1 });
  });

  it.each([
    ['another fixed port', '    ports: ["127.0.0.1:18998:80"]\n', '', 'the published port 18998 of web is fixed'],
    [
      'a volume of its own',
      '    volumes: ["data:/data"]\n',
      'volumes: {data: {}}\n',
      'the volume data would be another',
    ],
  ])('fails a blue-green rollout of a stack with %s', async (_, more, top, why) => {
    world.stack('bg-no');
    const job = await ship(
      'bg-no',
      `services:\n${web('1', more)}${top}`,
      'strategy: blue-green\nswitch: {file: x, text: y}\n',
    );
    expect({ ...outcome(job), changed: job.outputs.changed }, job.log).toEqual({
      status: 'failed',
      reason: 'strategy-impossible',
      changed: 'false',
    });
    expect(job.log).toContain(why);
  });
});
