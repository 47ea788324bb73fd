import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { requestLines } from '../../agent/cli/local-client.ts';
import { generateKey } from '../../protocol/keys.ts';
import { COMPILE_CACHE } from './compile-cache.ts';

/** The age of metrics, with the time of a request. */
const CACHE_MS = 1_100;
const BUNDLE = resolve(import.meta.dirname, '../../dist/agent/index.js');

/** A key pair as `chatops keygen` creates it. */
export type Keys = ReturnType<typeof generateKey>;

export interface HostOptions {
  /** The host's own folder, for the state, the stacks and agent.yaml. */
  dir: string;
  repository: string;
  keys?: Keys;
  /** Rows of `allow:`. The default allows all stacks, with the label of the examples. */
  allow?: unknown[];
  /** Further keys of agent.yaml. */
  config?: Record<string, unknown>;
  /** Added to the agent's environment. */
  env?: Record<string, string>;
  /** The command that starts the agent, in place of Node and the bundle. */
  command?: string[];
  /** The user who owns the agent's files. */
  owner?: number;
  /** Set if the agent serves TLS, so that a plain request can't show its start. */
  tls?: boolean;
}

/** An agent process of the built bundle, with a new key, on a free port of loopback. */
export class Host {
  readonly dir: string;
  readonly stacks: string;
  readonly state: string;
  readonly keys: Keys;
  readonly configFile: string;
  port = 0;
  log = '';
  child: ChildProcess | undefined;
  readonly #options: HostOptions;
  #metricsAt = 0;

  constructor(options: HostOptions) {
    this.#options = options;
    this.dir = options.dir;
    this.stacks = join(options.dir, 'stacks');
    this.state = join(options.dir, 'state');
    this.configFile = join(options.dir, 'agent.yaml');
    this.keys = options.keys ?? generateKey();
    mkdirSync(this.stacks, { recursive: true });
    mkdirSync(this.state, { recursive: true, mode: 0o700 });
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** The public half of the agent's own key, in the format of the input `agent-key`. */
  get agentKey(): string {
    const line = /ed25519:[A-Za-z0-9+/=]{44}/.exec(this.log)?.[0];
    if (!line) throw new Error(`The agent has not printed its public key:\n${this.log}`);
    return line;
  }

  /** Writes agent.yaml. JSON is YAML. */
  configure(changes: Record<string, unknown> = {}): void {
    const config = {
      agent: 'whitebox',
      listen: `127.0.0.1:${this.port}`,
      state_dir: this.state,
      rate_limit: { commands: 1000, per: '1m' },
      stacks: { root: this.stacks },
      docker: dockerClient(),
      // Tests that are about a container that ends wait longer.
      verify: { settle: '300ms' },
      // Allows binds in general; the tests of the compose rules set their own grants.
      compose: { grants: [{ stack: '*', allow: ['binds'] }] },
      trust: [
        {
          name: 'homelab',
          key: this.keys.public,
          repository: this.#options.repository,
          allow: this.#options.allow ?? [
            { actions: ['rollout', 'scale', 'rollback'], stacks: ['*'], require_labels: ['approved-by-gemini'] },
          ],
        },
      ],
      ...this.#options.config,
      ...changes,
    };
    writeFileSync(this.configFile, JSON.stringify(config, null, 2), { mode: 0o600 });
    if (this.#options.owner !== undefined) chownSync(this.configFile, this.#options.owner, this.#options.owner);
  }

  /** Starts the agent, with changes to agent.yaml. */
  async start(changes: Record<string, unknown> = {}): Promise<void> {
    this.port ||= await freePort();
    this.configure(changes);
    const [program = '', ...rest] = this.#options.command ?? [process.execPath, BUNDLE];
    this.child = spawn(program, [...rest, 'agent', '--config', this.configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, HOME: this.dir, ...COMPILE_CACHE, ...this.#options.env },
    });
    this.child.stdout?.setEncoding('utf8').on('data', chunk => (this.log += chunk));
    this.child.stderr?.setEncoding('utf8').on('data', chunk => (this.log += chunk));
    const deadline = Date.now() + 60_000;
    while (!(await this.#answers())) {
      if (this.child.exitCode !== null || Date.now() > deadline)
        throw new Error(`The agent did not start:\n${this.log}`);
      await sleep(30);
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  /** Runs the command line on this host, and returns its exit code and output. */
  async chatops(
    args: string[],
    options: { cwd?: string } = {},
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [BUNDLE, ...args, '--config', this.configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, HOME: this.dir, ...COMPILE_CACHE },
      ...options,
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', chunk => {
        output[name] += chunk;
      });
    }
    const [code] = await once(child, 'close');
    return { code, ...output };
  }

  /** Returns metrics that are newer than the call: the agent answers from a cache that is one second old. */
  async metrics(): Promise<string> {
    await sleep(Math.max(0, this.#metricsAt + CACHE_MS - performance.now()));
    const text = await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
    this.#metricsAt = performance.now();
    return text;
  }

  /** Returns the rows of the audit log from the agent, or from its database if no agent runs. */
  async audit(): Promise<Record<string, unknown>[]> {
    const rows: Record<string, unknown>[] = [];
    try {
      for await (const { body } of requestLines<{ body: string }>(join(this.state, 'agent.sock'), '/audit'))
        rows.push(JSON.parse(body) as Record<string, unknown>);
      return rows;
    } catch {
      const { stdout } = await this.chatops(['audit', 'export']);
      const text = stdout.split('\n').filter(Boolean);
      return text.map(line => JSON.parse(line) as Record<string, unknown>);
    }
  }

  async #answers(): Promise<boolean> {
    if (this.#options.tls) return this.log.includes('listens on');
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/healthz`)).ok;
    } catch {
      return false;
    }
  }
}

/** Returns the engine's unix socket, from DOCKER_HOST or at the usual path. */
export function dockerSocket(): string {
  return (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
}

/** The agent's docker client: that of the tests, whose folder may have another version of compose. */
export function dockerClient(): { socket: string; config_dir?: string } {
  const { DOCKER_CONFIG } = process.env;
  return { socket: dockerSocket(), ...(DOCKER_CONFIG === undefined ? {} : { config_dir: DOCKER_CONFIG }) };
}

/** Ports of this test process, below the kernel's ephemeral ports: a stopped host finds its port free again. */
const PORTS = { from: 10_000 + (process.pid % 100) * 200, count: 200 };
let tried = 0;

/** Returns a free port of loopback that no other test process takes. */
export async function freePort(): Promise<number> {
  for (let left = PORTS.count; left > 0; left--) {
    const port = PORTS.from + (tried++ % PORTS.count);
    const server = createServer().listen(port, '127.0.0.1');
    const [problem] = await Promise.race([once(server, 'listening'), once(server, 'error')]).catch(error => [error]);
    if (problem) continue;
    server.close();
    return port;
  }
  throw new Error(`No port from ${PORTS.from} on is free`);
}
