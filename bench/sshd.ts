import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../test/stand/host.ts';

/** A real sshd on loopback with its own key: the usual alternative to this product. */
export class Sshd {
  readonly #dir: string;
  #port = 0;
  #child: ChildProcess | undefined;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  async start(): Promise<void> {
    this.#port = await freePort();
    for (const name of ['host', 'user']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(this.#dir, name)]);
    }
    const config = join(this.#dir, 'sshd_config');
    const lines = [
      `Port ${this.#port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(this.#dir, 'host')}`,
      `AuthorizedKeysFile ${join(this.#dir, 'user.pub')}`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
    ];
    writeFileSync(config, `${lines.join('\n')}\n`);
    mkdirSync('/run/sshd', { recursive: true });
    this.#child = spawn('/usr/sbin/sshd', ['-D', '-f', config], { stdio: 'ignore' });
    for (let attempts = 0; !(await answers(this.#port)); attempts++) {
      if (attempts > 100 || this.#child.exitCode !== null) throw new Error('sshd did not start');
      await new Promise(next => setTimeout(next, 50));
    }
  }

  /** Runs a remote command line, discards its output, and returns the duration in milliseconds. */
  async run(line: string): Promise<number> {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const args = [
      '-p',
      String(this.#port),
      '-i',
      join(this.#dir, 'user'),
      ...options.flatMap(option => ['-o', option]),
    ];
    const started = performance.now();
    const child = spawn('ssh', [...args, 'root@127.0.0.1', line], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.resume();
    const [code] = (await once(child, 'close')) as [number];
    if (code !== 0) throw new Error(`ssh ended with ${code}: ${line}`);
    return performance.now() - started;
  }

  async stop(): Promise<void> {
    if (!this.#child || this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise(done => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => done(true)).once('error', () => done(false));
    socket.once('connect', () => socket.destroy());
  });
}
