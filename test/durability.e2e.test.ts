import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MIGRATIONS } from '../agent/store/migrations.ts';
import { freePort } from './stand/host.ts';
import { docker, LABEL, World, webStack } from './stand/world.ts';

const intent = (stack: string) => ({
  'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n`,
});
/** Returns an environment that shifts every clock of a Node process by `hours`. */
const shifted = (hours: number) => {
  const code = `const now = Date.now, by = ${hours} * 3600e3; globalThis.Date = class extends Date { constructor(...a) { a.length ? super(...a) : super(now() + by) } static now() { return now() + by } }`;
  return { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(code)}` };
};

describe('a wrong clock', () => {
  it.each([
    ['the host an hour ahead', 1, 0],
    ['the host an hour behind', -1, 0],
    ['the runner an hour ahead', 0, 1],
    ['the runner an hour behind', 0, -1],
  ])('deploys with the clock of %s', async (name, host, runner) => {
    const stack = `clock-${name.replaceAll(/[^a-z]+/g, '-').replaceAll(/^-|-$/g, '')}`;
    await using world = await new World({ env: shifted(host) }).start();
    world.stack(stack, { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    const job = await world.deploy(world.merge(intent(stack)), 'it', { env: shifted(runner) });
    expect(job.outputs.status, job.log).toBe('succeeded');
    const began = Date.parse(JSON.parse(job.outputs.result ?? '').receipts[0].started_at);
    expect(Math.round((began - Date.now()) / 3_600_000) || 0).toBe(host);
  });
});

describe('a full disk', () => {
  it('pauses a run on a full disk, loses nothing, and continues when there is space', async () => {
    await using world = new World();
    const { host } = world;
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=700', 'tmpfs', host.state]);
    try {
      await world.start();
      const health =
        '    healthcheck: {test: [CMD, sh, -c, "test -e /ok || { touch /ok; exit 1; }"], interval: 3s, retries: 5}\n';
      world.stack('disk-full', { 'compose.yaml': webStack('chatops-test/web:1', await freePort(), health) });
      let onWait = () => {};
      const waiting = new Promise<void>(done => {
        onWait = done;
      });
      const job = world.begin(world.merge(intent('disk-full')), 'it', {
        onLog: chunk => chunk.includes('has not passed yet') && onWait(),
      });
      await waiting;
      const ballast = join(host.state, 'ballast');
      fill(ballast);
      for (let tries = 0; tries < 100 && !host.log.includes('its state is not writable'); tries++) await sleep(200);
      expect(host.log).toContain('waits, its state is not writable');
      const refused = await world.deploy(world.merge(intent('disk-full')), 'it');
      expect({ status: refused.outputs.status, reason: refused.outputs.reason }, refused.log).toEqual({
        status: 'refused',
        reason: 'state-unwritable',
      });
      rmSync(ballast);
      const { outputs, log } = await job.finished;
      expect({ status: outputs.status, reason: outputs.reason }, log).toEqual({ status: 'succeeded', reason: '' });
    } finally {
      await host.stop('SIGKILL');
      execFileSync('umount', ['--lazy', host.state]);
    }
  });
});

/** Writes to the file until the disk is full. */
function fill(path: string): void {
  for (const size of [64 * 1024, 1024, 1]) {
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(size), { flag: 'a' });
      } catch {
        break;
      }
    }
  }
}

describe('the history', () => {
  it('removes runs that agent.yaml does not keep, with their files', async () => {
    await using world = new World();
    const { host } = world;
    await world.start();
    world.stack('history', { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    const file = join(world.dir, 'it.yaml');
    writeFileSync(file, 'action: rollout\nstack: history\n');
    for (let n = 0; n < 4; n++) expect((await host.chatops(['run', file, '--plan'])).code).toBe(0);
    const ids = async () =>
      (JSON.parse((await host.chatops(['runs', '--json'])).stdout) as { id: string }[]).map(({ id }) => id);
    const before = await ids();
    expect({ runs: before.length, folders: readdirSync(join(host.state, 'runs')).length }).toEqual({
      runs: 4,
      folders: 4,
    });
    await host.stop();
    await host.start({ history: { max_runs: 2 } });
    for (let tries = 0; tries < 50 && (await ids()).length > 2; tries++) await sleep(100);
    expect(await ids()).toEqual(before.slice(0, 2));
    expect(readdirSync(join(host.state, 'runs')).sort()).toEqual(before.slice(0, 2).sort());
  });
});

describe('a state folder of the first version', () => {
  it('migrates a state folder of the first version: lists old runs and ends unfinished runs as interrupted', async () => {
    await using world = new World();
    const { host } = world;
    mkdirSync(host.state, { recursive: true });
    const db = new DatabaseSync(join(host.state, 'chatops.db'));
    db.exec(`${MIGRATIONS[0]} PRAGMA user_version = 1;`);
    const command = JSON.stringify({
      type: 'run',
      intents: [{ intent: { action: 'rollout', stack: 'old' } }],
      files: [],
    });
    const insert = db.prepare(
      "INSERT INTO runs VALUES (?, 'd', 'run', 'homelab', 'k', 'a', ?, ?, ?, ?, '2026-01-01T00:00:00.000Z', NULL, 0, ?)",
    );
    insert.run('run-ended-0001', command, 'ended', 'succeeded', '{"payload":"e30="}', '0'.repeat(64));
    insert.run('run-open-00001', command, 'running', null, null, '0'.repeat(64));
    db.prepare("INSERT INTO plans VALUES ('run-open-00001', 1, '{}')").run();
    db.close();
    world.stack('old', { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    docker('compose', '--project-directory', join(host.stacks, 'old'), 'up', '--detach');
    await world.start();
    const list = async () => JSON.parse((await host.chatops(['runs', '--json'])).stdout);
    for (let tries = 0; tries < 50 && (await list())[0].state !== 'ended'; tries++) await sleep(100);
    const runs = await list();
    expect((await host.chatops(['logs', 'run-open-00001'])).stdout).toMatch(
      /Containers now: old: old-web-1 \(Up .*\)\./,
    );
    expect(runs).toMatchObject([
      { id: 'run-open-00001', state: 'ended', outcome: 'interrupted', title: 'rollout on old' },
      { id: 'run-ended-0001', outcome: 'succeeded', title: 'rollout on old' },
    ]);
  });
});
