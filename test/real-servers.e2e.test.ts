import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import { docker, LABEL, World } from './stand/world.ts';

let world: World;
const children: ChildProcess[] = [];
beforeAll(async () => {
  world = await new World().start();
});
afterAll(async () => {
  for (const child of children) {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  await world[Symbol.asyncDispose]();
});

/** Asks again until an answer comes, for at most 20 s. */
async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 200; tries++) {
    const answer = await ask().catch(() => undefined);
    if (answer !== undefined) return answer;
    await sleep(100);
  }
  throw new Error('No answer within 20 s');
}

function start(program: string, ...args: string[]): void {
  children.push(spawn(program, args, { stdio: 'ignore' }));
}

describe('a registry', () => {
  it('pulls the new image and recreates the service after a tag of the registry moved', async () => {
    const port = await freePort();
    const config = join(world.dir, 'registry.yml');
    mkdirSync(join(world.dir, 'registry'));
    writeFileSync(
      config,
      JSON.stringify({
        version: 0.1,
        storage: { filesystem: { rootdirectory: join(world.dir, 'registry') } },
        http: { addr: `127.0.0.1:${port}` },
      }),
    );
    start('docker-registry', 'serve', config);
    await until(async () => (await fetch(`http://127.0.0.1:${port}/v2/`)).ok || undefined);
    const tag = `127.0.0.1:${port}/web:latest`;
    const publish = (version: string) => {
      docker('tag', `chatops-test/web:${version}`, tag);
      docker('push', '--quiet', tag);
      docker('rmi', tag);
    };
    const web = await freePort();
    const compose = `services:\n  web:\n    image: ${tag}\n    init: true\n    stop_grace_period: 0s\n    ports: ["127.0.0.1:${web}:80"]\n`;
    world.stack('stack-registry', { 'compose.yaml': compose });
    const merge = world.merge({
      'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: stack-registry\n`,
    });
    const says = () => readPage(web);
    for (const version of ['1', '2']) {
      publish(version);
      const job = await world.deploy(merge, 'it');
      expect({ status: job.outputs.status, changed: job.outputs.changed, page: await says() }).toEqual({
        status: 'succeeded',
        changed: 'true',
        page: version,
      });
    }
    const [{ images }] = JSON.parse((await world.deploy(merge, 'it')).outputs.result ?? '').receipts[0].documents;
    expect(images[0].before).toBe(images[0].after);
    docker(
      'rm',
      '--force',
      docker('ps', '--quiet', '--filter', 'label=com.docker.compose.project=stack-registry').trim(),
    );
    docker('rmi', tag);
  });
});

describe('Prometheus', () => {
  it('finds the agent’s metrics in a real Prometheus', async () => {
    const port = await freePort();
    const config = join(world.dir, 'prometheus.yml');
    const scrape = {
      job_name: 'chatops',
      scrape_interval: '1s',
      static_configs: [{ targets: [new URL(world.host.url).host] }],
    };
    writeFileSync(config, JSON.stringify({ scrape_configs: [scrape] }));
    start(
      'prometheus',
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(world.dir, 'tsdb')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    );
    const query = async (text: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(text)}`);
      const { data } = (await answer.json()) as {
        data: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      return data.result[0];
    };
    expect((await until(() => query('chatops_build_info'))).metric).toMatchObject({
      agent: 'whitebox',
      job: 'chatops',
    });
    expect((await until(() => query('up{job="chatops"}'))).value[1]).toBe('1');
  });
});

describe('several hosts', () => {
  it('sends each of several hosts the documents that name it, in file order', async () => {
    await using other = await new World().start();
    for (const { name, to } of [
      { name: 'stack-here', to: world },
      { name: 'stack-there', to: other },
    ]) {
      to.stack(name, {
        'compose.yaml':
          'services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n',
      });
    }
    other.host.configure({
      trust: [
        {
          name: 'homelab',
          key: world.host.keys.public,
          repository: 'org/homelab',
          allow: [{ actions: ['rollout'], stacks: ['*'] }],
        },
      ],
    });
    other.host.child?.kill('SIGHUP');
    const document = (stack: string, host: string) =>
      `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\nhost: ${host}\n`;
    const merge = world.merge({
      'chatops/intents/both.yaml': `${document('stack-here', 'box')}---\n${document('stack-there', 'nas')}`,
      'chatops/intents/lost.yaml': document('stack-here', 'attic'),
    });
    await until(async () => other.host.log.includes('configuration reloaded') || undefined);
    const inputs = {
      agent: `box=${world.host.url}\nnas=${other.host.url}`,
      'agent-key': `box=${world.host.agentKey}\nnas=${other.host.agentKey}`,
    };
    const job = await world.deploy(merge, 'both', { inputs });
    const { receipts } = JSON.parse(job.outputs.result ?? '') as { receipts: { documents: { stack: string }[] }[] };
    expect({
      status: job.outputs.status,
      stacks: receipts.map(({ documents }) => documents.map(({ stack }) => stack)),
    }).toEqual({ status: 'succeeded', stacks: [['stack-here'], ['stack-there']] });
    expect((await world.deploy(merge, 'lost', { inputs })).outputs.reason).toBe('host-unknown');
  });
});
