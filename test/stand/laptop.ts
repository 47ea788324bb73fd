import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { generateKey } from '../../protocol/keys.ts';
import type { Host, Keys } from './host.ts';

const BUNDLE = resolve(import.meta.dirname, '../../dist/agent/index.js');

/** Result of a call of the command line. */
export interface CallResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A user on another machine: an own key, and `chatops` without a configuration and a socket. */
export class Laptop {
  readonly name: string;
  readonly keys: Keys = generateKey();
  readonly #dir: string;
  readonly #host: () => Host;

  /** `host` is called for each command, because an agent prints its key only when it starts. */
  constructor(name: string, dir: string, host: () => Host) {
    this.name = name;
    this.#dir = dir;
    this.#host = host;
    writeFileSync(this.keyFile, `${this.keys.secret}\n`, { mode: 0o600 });
  }

  get keyFile(): string {
    return join(this.#dir, `${this.name}.key`);
  }

  /** Trust entry that admits the laptop, without its rules. */
  get entry() {
    return { name: `laptop-${this.name}`, key: this.keys.public, repository: `laptop/${this.name}` };
  }

  async chatops(args: string[], env: Record<string, string> = {}): Promise<CallResult> {
    const { url, agentKey } = this.#host();
    const child = spawn(process.execPath, [BUNDLE, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: this.#dir,
      env: {
        ...{ PATH: process.env.PATH, HOME: this.#dir, CHATOPS_AGENT: url, CHATOPS_AS: this.name },
        ...{ CHATOPS_AGENT_KEY: agentKey, CHATOPS_SIGNING_KEY_FILE: this.keyFile, ...env },
      },
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', chunk => {
        output[name] += chunk;
      });
    const [code] = await once(child, 'close');
    return { code, ...output };
  }
}
