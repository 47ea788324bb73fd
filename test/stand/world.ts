import { type ChildProcess, execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GitHubDouble } from '../doubles/github.ts';
import { committed, type Entry, labeled, merged, type Pull, pushEvent } from '../doubles/github-events.ts';
import { Host, type HostOptions } from './host.ts';
import { Repository } from './repository.ts';
import { type Finished, type Job, runJob, startJob } from './runner.ts';

export const LABEL = 'approved-by-gemini';

export interface Merge {
  before: string;
  sha: string;
  number: number;
}

/** A repository, GitHub, a host with an agent, and jobs: everything that a deployment needs, on this machine. */
export class World implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'chatops-world-'));
  readonly repository: Repository;
  readonly github = new GitHubDouble('org/homelab');
  readonly host: Host;
  #pulls = 0;

  constructor(host: Partial<HostOptions> = {}) {
    this.repository = new Repository(join(this.dir, 'repository'));
    this.host = new Host({ dir: join(this.dir, 'host'), repository: 'org/homelab', ...host });
    this.github.git = this.repository.dir;
    this.github.commit(this.repository.commit('first', { 'README.md': '# homelab\n' }), []);
  }

  async start(): Promise<this> {
    await this.github.start();
    await this.host.start();
    return this;
  }

  /** Creates the folder of a stack on the host, with these files. */
  stack(name: string, files: Record<string, string> = {}): string {
    const folder = join(this.host.stacks, name);
    mkdirSync(folder, { recursive: true });
    for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text);
    return folder;
  }

  /**
   * Commits the files as the squashed merge of a pull request. Its timeline has the label, unless another is given; `changes`
   * are to what GitHub knows of it.
   */
  merge(
    files: Record<string, string | null>,
    timeline?: (head: string) => Entry[],
    changes: Partial<Pull> = {},
  ): Merge {
    const before = this.repository.head();
    const number = ++this.#pulls;
    // A pull request that changes nothing brings nothing, and nothing is approved by it.
    const changed = Object.entries(files).map(([path, text]) => [path, withNumber(path, text, number)]);
    const sha = this.repository.commit(`a change (#${number})`, Object.fromEntries(changed));
    const head = sha.replace(/^./, 'f');
    this.github.commit(sha, [before], `a change (#${number})`);
    this.github.pull({
      number,
      mergeSha: sha,
      headSha: head,
      files: Object.keys(files),
      timeline: timeline?.(head) ?? [committed(head), labeled(LABEL), merged()],
      ...changes,
    });
    return { before, sha, number };
  }

  /** Returns the job that the push of this merge starts. */
  job({ before, sha }: Merge, intent: string, changes: Partial<Job> = {}): Job {
    return {
      workspace: this.repository.dir,
      event: 'push',
      payload: pushEvent('org/homelab', before, sha),
      repository: 'org/homelab',
      sha,
      apiUrl: this.github.url,
      ...changes,
      inputs: {
        intent,
        agent: this.host.url,
        'agent-key': this.host.agentKey,
        'signing-key': this.host.keys.secret,
        'github-token': 'ghs_double',
        ...changes.inputs,
      },
    };
  }

  deploy(merge: Merge, intent: string, changes: Partial<Job> = {}): Promise<Finished> {
    return runJob(this.job(merge, intent, changes));
  }

  begin(merge: Merge, intent: string, changes: Partial<Job> = {}) {
    return startJob(this.job(merge, intent, changes));
  }

  /** Runs the post step of a job that saved this state. */
  post(merge: Merge, state: Record<string, string>): Promise<Finished> {
    return runJob(this.job(merge, 'it'), state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.stop('SIGKILL');
    await this.github.stop();
    this.clear();
    for (const stack of this.#stacks()) {
      const own = `label=com.docker.compose.project=${stack}`;
      const networks = linesOf(docker('network', 'ls', '--quiet', '--filter', own));
      if (networks.length > 0) docker('network', 'rm', ...networks);
      const kept = `reference=chatops-kept/${stack.toLowerCase()}`;
      const images = linesOf(docker('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', '--filter', kept));
      if (images.length > 0) docker('image', 'rm', '--force', ...images);
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Removes the containers of finished stacks: their health checks would continue during later tests. */
  clear(...except: string[]): void {
    const own = new Set(this.#stacks().filter(stack => !except.includes(stack)));
    const all = docker('ps', '--all', '--format', '{{.ID}} {{.Label "com.docker.compose.project"}}');
    const containers = linesOf(all).flatMap(line => {
      const [id = '', project = ''] = line.split(' ');
      return own.has(project) ? [id] : [];
    });
    if (containers.length > 0) docker('rm', '--force', '--volumes', ...containers);
  }

  /** Returns only the stacks of this world, because other tests run at the same time. */
  #stacks(): string[] {
    return readdirSync(this.host.stacks).flatMap(name => [name, `${name}-green`]);
  }
}

/** Makes each version of an intent file different, as it would be in a pull request that changes it. */
function withNumber(path: string, text: string | null, number: number): string | null {
  return text !== null && /^chatops\/intents\/.*\.ya?ml$/.test(path)
    ? `${text.replace(/\n*$/, '')}\n# change ${number}\n`
    : text;
}

function linesOf(text: string): string[] {
  return text.split('\n').filter(Boolean);
}

export function docker(...args: string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Builds an image from a static busybox alone: a web server that returns its version. */
export function buildImage(tag: string, version: string): void {
  const context = mkdtempSync(join(tmpdir(), 'chatops-image-'));
  try {
    copyFileSync('/bin/busybox', join(context, 'busybox'));
    writeFileSync(join(context, 'index.html'), `${version}\n`);
    const commands = ['sh', 'httpd', 'wget', 'sleep', 'cat', 'seq', 'test', 'true', 'false', 'echo', 'touch'];
    const lines = [
      'FROM scratch',
      'COPY busybox /bin/busybox',
      ...commands.map(command => `COPY busybox /bin/${command}`),
      'COPY index.html /www/index.html',
      'LABEL org.opencontainers.image.title=chatops-test',
      'CMD ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]',
    ];
    writeFileSync(join(context, 'Dockerfile'), `${lines.join('\n')}\n`);
    execFileSync('docker', ['build', '--quiet', '--tag', tag, context], {
      env: { ...process.env, DOCKER_BUILDKIT: '0' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } finally {
    rmSync(context, { recursive: true });
  }
}

/** Returns a compose file of one web service whose image exists on the host. */
export function webStack(image: string, port: number, more = ''): string {
  return `services:
  web:
    image: ${image}
    pull_policy: never
    init: true
    stop_grace_period: 1s
    ports: ["127.0.0.1:${port}:80"]
${more}`;
}

/** Returns a compose file of one service that the engine needs three seconds to stop. */
export const slowStack = (version: string) =>
  `services:\n  web:\n    image: chatops-test/web:${version}\n    pull_policy: never\n    stop_grace_period: 3s\n    command: [sh, -c, "trap : TERM; while :; do sleep 1; done"]\n`;

/** Waits until a job has printed the text. */
export function untilLog({ child }: { child: ChildProcess }, text: string): Promise<void> {
  let log = '';
  return new Promise(done => {
    child.stdout?.on('data', chunk => {
      log += String(chunk);
      if (log.includes(text)) done();
    });
  });
}
