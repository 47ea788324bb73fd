import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dockerSocket } from './stand/host.ts';
import { LABEL, World } from './stand/world.ts';

const UNIT = 'agent/deploy/chatops-agent.service';

describe('the systemd unit', () => {
  const lines = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter(line => /^\w+=/.test(line) && !line.startsWith('WantedBy'));
  /** Returns systemd's exposure score of a unit file, and each setting that adds to it. */
  function analyze(unit: string[]): { score: number; open: string[] } {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-unit-'));
    try {
      const file = join(dir, 'chatops-agent.service');
      writeFileSync(file, ['[Service]', ...unit].join('\n'));
      const args = ['security', '--offline=true', '--no-pager'];
      const report = execFileSync('systemd-analyze', [...args, file], { encoding: 'utf8' });
      const rows = JSON.parse(
        execFileSync('systemd-analyze', [...args, '--json=short', file], { encoding: 'utf8' }),
      ) as { name: string; exposure: string | null }[];
      return {
        score: Number(/exposure level for .*: ([\d.]+)/.exec(report)?.[1]),
        open: rows.filter(({ exposure }) => Number(exposure) > 0).map(({ name }) => name),
      };
    } finally {
      rmSync(dir, { recursive: true });
    }
  }
  const service = () => lines(UNIT).filter(line => !/^(Description|Documentation|Wants|After)=/.test(line));

  it('has an exposure of at most 2.0, and its page explains each setting that adds to it', () => {
    const { score, open } = analyze(service());
    expect(score).toBeLessThanOrEqual(2);
    expect(score).toBeGreaterThan(0);
    const page = readFileSync('docs/confinement.md', 'utf8').replaceAll('\\|', '|');
    expect(page).toContain(`reports ${score} (`);
    for (const name of open) expect(page).toContain(`\`${name}\``);
  });

  it('has the documented exposure with the drop-in for backups', () => {
    const { score } = analyze([...service(), ...lines('agent/deploy/backups.conf')]);
    expect(readFileSync('docs/confinement.md', 'utf8')).toContain(`With it the unit has ${score}.`);
    expect(score).toBeLessThan(2.5);
  });

  it('has a lower exposure than a unit that protects nothing', () => {
    expect(analyze(['ExecStart=/bin/true']).score).toBeGreaterThan(9);
  });

  it('has only settings that systemd knows', () => {
    const output = execFileSync('systemd-analyze', ['verify', '--man=no', UNIT], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(output).not.toMatch(/Unknown/);
  });
});

describe('an agent that is not root', () => {
  const USER = 54_321;
  let world: World;
  let proxy: Server;
  let dir: string;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'chatops-user-'));
    chmodSync(dir, 0o755);
    // Another user may not read the folder of the sources.
    copyFileSync(process.execPath, join(dir, 'node'));
    cpSync('dist/agent', join(dir, 'agent'), { recursive: true });
    const socket = join(dir, 'docker.sock');
    proxy = createServer(client => {
      const engine = connect(dockerSocket());
      for (const connection of [client, engine]) connection.on('error', () => undefined);
      client.pipe(engine).pipe(client);
    }).listen(socket);
    await new Promise(done => proxy.once('listening', done));
    chownSync(socket, 0, USER + 1);
    chmodSync(socket, 0o660);
    const user = [
      'setpriv',
      `--reuid=${USER}`,
      `--regid=${USER}`,
      `--groups=${USER + 1}`,
      '--no-new-privs',
      '--bounding-set=-all',
      '--inh-caps=-all',
    ];
    world = new World({
      command: [...user, join(dir, 'node'), join(dir, 'agent', 'index.js')],
      config: { docker: { socket } },
      owner: USER,
    });
    chmodSync(world.dir, 0o755);
    execFileSync('chown', ['-R', `${USER}:${USER}`, world.host.dir]);
    await world.start();
  });
  afterAll(async () => {
    await world[Symbol.asyncDispose]();
    proxy.close();
    rmSync(dir, { recursive: true });
  });

  it('rolls out a stack with its files, and needs only the group of the Docker socket', async () => {
    const status = readFileSync(`/proc/${world.host.child?.pid}/status`, 'utf8');
    expect({
      uid: /^Uid:\s+(\d+)/m.exec(status)?.[1],
      capabilities: /^CapEff:\s+(\S+)/m.exec(status)?.[1],
      noNewPrivileges: /^NoNewPrivs:\s+(\d)/m.exec(status)?.[1],
    }).toEqual({ uid: String(USER), capabilities: '0000000000000000', noNewPrivileges: '1' });
    const folder = world.stack('own');
    chownSync(folder, USER, USER);
    const merge = world.merge({
      'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: own\nsource_dir: stacks/own\n`,
      'stacks/own/compose.yaml':
        'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
    });
    const job = await world.deploy(merge, 'up');
    expect(job.outputs.status, job.log).toBe('succeeded');
    expect(statSync(join(folder, 'compose.yaml')).uid).toBe(USER);
  });

  it('reports a folder that its user may not write, with the remedy', async () => {
    const folder = world.stack('roots');
    chmodSync(folder, 0o755);
    const merge = world.merge({
      'chatops/intents/no.yaml': `label_required: ${LABEL}\naction: rollout\nstack: roots\nsource_dir: stacks/roots\n`,
      'stacks/roots/compose.yaml': 'services: {}\n',
    });
    const job = await world.deploy(merge, 'no');
    expect(
      {
        reason: job.outputs.reason,
        logHasRemedy: job.log.includes('Let the agent’s user write there'),
      },
      job.log,
    ).toEqual({ reason: 'write-failed', logHasRemedy: true });
    expect(existsSync(join(folder, 'compose.yaml'))).toBe(false);
  });
});
