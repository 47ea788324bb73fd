import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pushEvent } from '../test/doubles/github-events.ts';
import { type Job, startJob } from '../test/stand/runner.ts';
import { LABEL, World } from '../test/stand/world.ts';
import { peak, rss } from './idle.ts';

const AGENTS = Number(process.env.FLEET ?? 200);
/** Agents that start at the same time. */
const CONCURRENCY = 10;
const BUNDLE = resolve(import.meta.dirname, '../dist/agent/index.js');

interface Member {
  child: ChildProcess;
  port: number;
  key: string;
}

/**
 * Measures a backup on every host of a fleet, in waves of a quarter after a canary, sent by one action. Each agent has its own
 * mount namespace, so that the same paths are different folders for each agent.
 */
export async function fleet(): Promise<void> {
  await using world = new World();
  await world.github.start();
  const mount = join(world.dir, 'mount');
  mkdirSync(mount);
  const members: Member[] = [];
  try {
    const started = performance.now();
    for (let first = 0; first < AGENTS; first += CONCURRENCY) {
      const length = Math.min(CONCURRENCY, AGENTS - first);
      members.push(...(await Promise.all(Array.from({ length }, (_, n) => startAgent(world, mount, first + n)))));
    }
    const startSeconds = (performance.now() - started) / 1000;
    const hosts = members.map(
      ({ port, key }, n) => `h${n}: {agent: "ws://127.0.0.1:${port}", key: "${key}", tags: [all]}\n`,
    );
    const intent = [
      `label_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nid: data\n`,
      `source: ${mount}/data\ndestination: ${mount}/nas\nhosts: tag:all\ncanary: 1\nmax_unavailable: 25%\n`,
    ];
    const merge = world.merge({ 'chatops/intents/it.yaml': intent.join(''), 'chatops/hosts.yaml': hosts.join('') });
    const job: Job = {
      ...{ workspace: world.repository.dir, event: 'push', repository: 'org/homelab', sha: merge.sha },
      payload: pushEvent('org/homelab', merge.before, merge.sha),
      apiUrl: world.github.url,
      inputs: {
        ...{ intent: 'it', 'hosts-file': 'chatops/hosts.yaml', 'github-token': 'ghs_double' },
        'signing-key': world.host.keys.secret,
      },
    };
    const { child, finished } = startJob(job);
    let highest = 0;
    while (child.exitCode === null) {
      highest = Math.max(highest, peakOf(child.pid));
      await sleep(20);
    }
    const { outputs, log, ms } = await finished;
    if (outputs.status !== 'succeeded') throw new Error(log.slice(-4_000));
    const total = members.reduce((sum, { child }) => sum + rss(child.pid), 0);
    console.log(
      `fleet: ${AGENTS} agents, a backup on each in waves of a quarter after a canary: ${(ms / 1000).toFixed(1)} s; peak memory of the action ${highest.toFixed(0)} MB; memory of an agent afterwards ${(total / AGENTS).toFixed(0)} MB (all started in ${startSeconds.toFixed(0)} s)`,
    );
  } finally {
    for (const { child } of members) child.kill('SIGKILL');
  }
}

function peakOf(pid: number | undefined): number {
  try {
    return peak(pid) || 0;
  } catch {
    // The process has just exited.
    return 0;
  }
}

async function startAgent(world: World, mount: string, number: number): Promise<Member> {
  const dir = join(world.dir, `h${number}`);
  for (const name of ['data', 'nas', 'state', 'stacks']) mkdirSync(join(dir, name), { recursive: true, mode: 0o700 });
  writeFileSync(join(dir, 'data', 'file'), `of ${number}\n`);
  const port = 20_000 + number;
  const config = {
    ...{ agent: `h${number}`, listen: `127.0.0.1:${port}`, state_dir: join(dir, 'state') },
    stacks: { root: join(dir, 'stacks') },
    backups: { sources: [join(mount, 'data')], destinations: [{ path: join(mount, 'nas'), min_free: '1MiB' }] },
    trust: [
      {
        ...{ name: 'homelab', key: world.host.keys.public, repository: 'org/homelab' },
        allow: [{ actions: ['backup'], stacks: ['*'], require_labels: [LABEL] }],
      },
    ],
  };
  writeFileSync(join(dir, 'agent.yaml'), JSON.stringify(config), { mode: 0o600 });
  const line = `mount --bind "$1" "$2" && exec "$3" "$4" agent --config "$1/agent.yaml"`;
  const child = spawn('unshare', ['--mount', 'sh', '-c', line, 'sh', dir, mount, process.execPath, BUNDLE], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface(child.stdout as NodeJS.ReadableStream);
  for await (const output of lines) {
    const key = /^agent-key: (.+)$/.exec(output)?.[1];
    if (key !== undefined) return { child, port, key };
  }
  await once(child, 'exit');
  throw new Error(`The agent h${number} did not start`);
}
