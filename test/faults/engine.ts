import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ENVIRONMENT = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

/**
 * A private Docker engine in its own network namespace, which can be killed and started again. Its containerd keeps running
 * (as under systemd). Needs root.
 */
export class PrivateEngine {
  readonly #dir = mkdtempSync(join(tmpdir(), 'chatops-faults-engine-'));
  readonly #network = `chatops-faults-${process.pid}`;
  #containerd: ChildProcess | undefined;
  #child: ChildProcess | undefined;
  #driver = 'overlay2';

  get host(): string {
    return `unix://${join(this.#dir, 'docker.sock')}`;
  }

  async start(): Promise<void> {
    // The namespace outlives the processes of the engine, as the network of a host does.
    execFileSync('ip', ['netns', 'add', this.#network], { env: ENVIRONMENT });
    this.#containerd = this.#spawn('containerd', [
      ...['--root', join(this.#dir, 'containerd'), '--state', join(this.#dir, 'containerd-state')],
      ...['--address', join(this.#dir, 'containerd.sock'), '--log-level', 'error'],
    ]);
    for (const driver of [this.#driver, 'vfs']) {
      this.#driver = driver;
      this.#child = this.#dockerd();
      if (await this.#answers(20_000)) return;
      await this.kill('SIGKILL');
    }
    throw new Error(`dockerd did not start:\n${readFileSync(join(this.#dir, 'log'), 'utf8').slice(-2000)}`);
  }

  /** Kills the engine and starts it again. */
  async restart(signal: NodeJS.Signals): Promise<void> {
    await this.kill(signal);
    this.#child = this.#dockerd();
    if (!(await this.#answers(40_000)))
      throw new Error(`dockerd did not start again:\n${readFileSync(join(this.#dir, 'log'), 'utf8').slice(-2000)}`);
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    await end(this.#child, signal);
    rmSync(join(this.#dir, 'docker.pid'), { force: true });
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM');
    await end(this.#containerd, 'SIGTERM');
    execFileSync('ip', ['netns', 'delete', this.#network], { env: ENVIRONMENT });
    const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
    const own = mounts.map(line => line.split(' ')[1] ?? '').filter(path => path.startsWith(`${this.#dir}/`));
    for (const path of own.sort().reverse()) execFileSync('umount', ['--lazy', path]);
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #dockerd(): ChildProcess {
    return this.#spawn('nsenter', [
      `--net=/run/netns/${this.#network}`,
      ...['dockerd', '--host', this.host, '--containerd', join(this.#dir, 'containerd.sock')],
      ...['--data-root', join(this.#dir, 'data'), '--exec-root', join(this.#dir, 'exec')],
      ...['--pidfile', join(this.#dir, 'docker.pid'), '--storage-driver', this.#driver],
    ]);
  }

  #spawn(program: string, args: string[]): ChildProcess {
    const log = openSync(join(this.#dir, 'log'), 'a');
    const child = spawn(program, args, { stdio: ['ignore', log, log], env: ENVIRONMENT });
    closeSync(log);
    return child;
  }

  async #answers(timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (Date.now() < deadline) {
      try {
        execFileSync('docker', ['info'], {
          stdio: 'ignore',
          timeout: 5_000,
          env: { ...process.env, DOCKER_HOST: this.host },
        });
        return true;
      } catch {
        if (this.#child?.exitCode !== null && this.#child?.exitCode !== undefined) return false;
        await sleep(100);
      }
    }
    return false;
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}
