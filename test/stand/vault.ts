import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { docker, World } from './world.ts';

/** The result of a run that the host's own command line started. */
export interface RunResult {
  code: number | null;
  log: string;
  /** The stable code of the failure, or an empty text without one. */
  reason: string;
}

/** A host with a folder for backups, whose own command line runs intents. */
export class Vault extends World {
  readonly nas = join(this.dir, 'nas');
  readonly data = join(this.dir, 'data');
  readonly #containers: string[] = [];
  readonly #more: object;

  constructor(more: object = {}) {
    super();
    this.#more = more;
    for (const folder of [this.nas, this.data]) mkdirSync(folder, { recursive: true });
  }

  get policy() {
    const destinations = [{ path: this.nas, min_free: '1MiB' }];
    return { backups: { sources: [this.data, '/'], destinations, ...this.#more } };
  }

  override async start(): Promise<this> {
    await this.host.start(this.policy);
    return this;
  }

  /** Starts a container with arguments of `docker run`, and removes it with this vault. */
  container(name: string, ...args: string[]): string {
    const own = `${name}-${process.pid}`;
    this.#containers.push(own);
    docker('run', '--detach', '--name', own, ...args);
    return own;
  }

  /** Writes the YAML text of an intent to a file, and runs it on the host. */
  async run(name: string, intent: string, ...args: string[]): Promise<RunResult> {
    const file = join(this.dir, `${name}.yaml`);
    writeFileSync(file, intent);
    const { code, stdout, stderr } = await this.host.chatops(['run', file, ...args]);
    const log = stdout + stderr;
    return { code, log, reason: /^✗ \S+: ([a-z-]+)/m.exec(log.split('\n').slice(-4).join('\n'))?.[1] ?? '' };
  }

  /** Returns the names of the finished backups, oldest first. */
  kept(folder: string): string[] {
    const names = readdirSync(join(this.nas, folder));
    return names
      .filter(name => name.endsWith('.json'))
      .map(name => name.slice(0, -5))
      .sort();
  }

  manifest(folder: string, name: string) {
    return JSON.parse(readFileSync(join(this.nas, folder, `${name}.json`), 'utf8'));
  }

  /** Returns the entries of a backup folder that neither are a backup nor describe one. */
  leftovers(folder: string): string[] {
    const kept = this.kept(folder);
    const known = [...kept, ...kept.flatMap(name => [`${name}.json`, `${name}.sha256`]), 'RESTORE.md'];
    return readdirSync(join(this.nas, folder)).filter(name => !known.includes(name));
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    if (this.#containers.length > 0) docker('rm', '--force', '--volumes', ...this.#containers);
    await super[Symbol.asyncDispose]();
  }
}

/** Repeats a check until it passes, or throws its last error after the deadline. */
export async function eventually(check: () => void, ms = 30_000): Promise<void> {
  const deadline = Date.now() + ms;
  for (;;) {
    try {
      return check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise(next => setTimeout(next, 200));
    }
  }
}
