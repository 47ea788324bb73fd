import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cable } from '../stand/cable.ts';
import { buildImage, docker, LABEL, World } from '../stand/world.ts';
import type { PrivateEngine } from './engine.ts';

const STACK = 'faulty';
/** Passes only for versions 1 and 2. */
const HEALTH =
  '    healthcheck: {test: [CMD, sh, -c, \'case "$$(cat /www/index.html)" in 1|2) exit 0;; esac; exit 1\'], interval: 1s, retries: 2, timeout: 2s}\n';
const compose = (version: number) => `services:
  web:
    image: chatops-test/web:${version}
    pull_policy: never
    init: true
    restart: unless-stopped
    stop_grace_period: 1s
${HEALTH}  side:
    image: chatops-test/web:${version === 3 ? 2 : version}
    pull_policy: never
    restart: unless-stopped
    stop_grace_period: 1s
    command: [sh, -c, "trap : TERM; while :; do sleep 0.2; done"]
`;

export const OPERATIONS = ['rollout', 'rollout', 'failing rollout', 'scale', 'rollback'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** The environment of the faults: an engine, a host with an agent, a cable, and jobs. */
export class Bench implements AsyncDisposable {
  readonly engine: PrivateEngine;
  readonly world = new World();
  readonly cable = new Cable(() => this.world.host.port);
  #version = 1;

  constructor(engine: PrivateEngine) {
    this.engine = engine;
  }

  async start(): Promise<void> {
    for (const version of ['1', '2', '3']) buildImage(`chatops-test/web:${version}`, version);
    await this.world.start();
    await this.cable.start();
    this.world.stack(STACK);
    const job = this.begin('rollout', 0);
    const { outputs, log } = await job.finished;
    if (outputs.status !== 'succeeded') throw new Error(`The first rollout did not succeed:\n${log}`);
  }

  /** Starts a job. `number` chooses the number of containers. */
  begin(operation: Operation, number: number) {
    const head = `label_required: ${LABEL}\nstack: ${STACK}\ntimeout: 40s\n`;
    const files: Record<string, string> = {};
    switch (operation) {
      case 'rollout':
      case 'failing rollout':
        this.#version = operation === 'rollout' ? (this.#version % 2) + 1 : this.#version;
        files['chatops/intents/it.yaml'] =
          `${head}action: rollout\nsource_dir: stacks/${STACK}\nverify: {healthy: [web]}\n`;
        files[`stacks/${STACK}/compose.yaml`] = compose(operation === 'rollout' ? this.#version : 3);
        break;
      case 'scale':
        files['chatops/intents/it.yaml'] = `${head}action: scale\nservice: web\nreplicas: ${(number % 3) + 1}\n`;
        break;
      case 'rollback':
        files['chatops/intents/it.yaml'] = `${head}action: rollback\n`;
    }
    return this.world.begin(this.world.merge(files), 'it', { inputs: { agent: this.cable.url } });
  }

  /** Process ids of the running steps of this host's agent. */
  steps(): number[] {
    return findPids(pid => environmentOf(pid).some(line => line.startsWith(`CHATOPS_STEP=${this.world.host.state}/`)));
  }

  /** Process ids of the running supervisors of this host's agent. */
  supervisors(): number[] {
    const home = `HOME=${this.world.host.dir}`;
    return findPids(
      pid => textOf(`/proc/${pid}/cmdline`).split('\0').includes('keeper') && environmentOf(pid).includes(home),
    );
  }

  /** Returns the cause if a service of the stack is down, or undefined if all run and web is healthy. Waits some seconds for health. */
  async findDownService(): Promise<string | undefined> {
    let cause: string | undefined;
    for (let attempts = 0; attempts < 80; attempts++) {
      cause = this.#downServiceNow();
      if (cause === undefined) return undefined;
      await sleep(250);
    }
    return cause;
  }

  #downServiceNow(): string | undefined {
    const lines = docker(
      'ps',
      '--all',
      '--format',
      '{{.Names}}|{{.State}}|{{.Status}}',
      '--filter',
      `label=com.docker.compose.project=${STACK}`,
    );
    const containers = lines
      .split('\n')
      .filter(Boolean)
      .map(line => line.split('|'));
    const created = containers.find(([, state]) => state === 'created');
    if (created) return `${created[0]} was created but not started`;
    for (const service of ['web', 'side']) {
      const replicas = containers.filter(([name]) => name?.includes(`-${service}-`));
      const running = replicas.filter(
        ([, state, status]) => state === 'running' && (service === 'side' || status?.includes('(healthy)')),
      );
      if (running.length === 0)
        return `${service}: ${replicas.map(([name, , status]) => `${name} ${status}`).join(', ') || 'no container'}`;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cable.stop();
    for (const pid of [...this.supervisors(), ...this.steps()]) kill(pid, 'SIGKILL');
    await this.world[Symbol.asyncDispose]();
  }
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function findPids(matches: (pid: number) => boolean): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => !/^State:\tZ/m.test(textOf(`/proc/${pid}/status`)) && matches(pid));
}

function environmentOf(pid: number): string[] {
  return textOf(`/proc/${pid}/environ`).split('\0');
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
