import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Receipt } from '../protocol/receipt.ts';
import { freePort } from './stand/host.ts';
import { Vault } from './stand/vault.ts';
import { docker, webStack } from './stand/world.ts';

let vault: Vault;
beforeAll(async () => {
  vault = await new Vault().start();
  mkdirSync(data());
  writeFileSync(join(data(), 'kept.txt'), 'kept\n');
});
afterAll(() => vault[Symbol.asyncDispose]());
afterEach(() => vault.clear());

const data = () => join(vault.data, 'files');
const image = (version: string) => `chatops-test/web:${version}`;
/** Returns a healthcheck that passes at once or never. */
const health = (good: boolean) =>
  `    healthcheck: {test: [CMD, "${good ? 'true' : 'false'}"], interval: 1s, retries: 1, timeout: 10s}\n`;
const ports = new Map<string, number>();
/** Writes the stack's compose file with that version. */
async function stack(name: string, version: string, good = true): Promise<void> {
  const port = ports.get(name) ?? (await freePort());
  ports.set(name, port);
  vault.stack(name, { 'compose.yaml': webStack(image(version), port, health(good)) });
}
const says = async (name: string) =>
  fetch(`http://127.0.0.1:${ports.get(name)}/`)
    .then(async answer => (await answer.text()).trim())
    .catch(() => 'nothing');
const rollout = (name: string, more = '') =>
  `id: ${name}\naction: rollout\nstack: ${name}\ntimeout: 60s\nverify: {healthy: [web]}\n${more}`;
const file = (...documents: string[]) => documents.join('---\n');
const backup = () =>
  `id: data\naction: backup\nbackup_type: docker_volumes\nsource: ${data()}\ndestination: ${vault.nas}\n`;

const latest = async () =>
  (JSON.parse((await vault.host.chatops(['runs', '--json', '--limit', '1'])).stdout) as { id: string }[])[0]?.id ?? '';

/** Returns the receipt of the newest run, and the outcome of each document by its id. */
async function newest(): Promise<{ receipt: Receipt; outcomes: Record<string, string> }> {
  const [run] = JSON.parse((await vault.host.chatops(['runs', '--json', '--limit', '1'])).stdout);
  const { receipt } = JSON.parse((await vault.host.chatops(['runs', run.id, '--json'])).stdout);
  return {
    receipt,
    outcomes: Object.fromEntries((receipt as Receipt).documents.map(({ id, outcome }) => [id, outcome])),
  };
}

describe('a file of several documents', () => {
  it('documents that do not need each other run in parallel, and each log line names its document', async () => {
    for (const name of ['side-a', 'side-b']) await stack(name, '1');
    const text = file(backup(), rollout('side-a', 'needs: [data]\n'), rollout('side-b', 'needs: [data]\n'));
    const { code, log } = await vault.run('side', text);
    expect(code, log).toBe(0);
    expect(log).toContain('2. side-a: rollout on side-a (after data)');
    expect(log).toContain('side-a: ── pull');
    expect(log).toContain('side-b: ── pull');
    expect(log).toMatch(/side-b: .*Container side-b-web-1 {2}Started/);
    const { receipt, outcomes } = await newest();
    expect(outcomes).toEqual({ data: 'succeeded', 'side-a': 'succeeded', 'side-b': 'succeeded' });
    expect(receipt.documents[1]).toMatchObject({ restore_points: [{ name: 'data' }] });
    const order = log.split('\n').filter(line => /(side-[ab]: ── up|✓ up)/.test(line));
    // Both start before one ends.
    expect(
      order.slice(0, 2).every(line => line.includes('── up')),
      order.join('\n'),
    ).toBe(true);
  });

  it('a failure with "on_failure: rollback" undoes the succeeded documents, the last first', async () => {
    for (const name of ['back-a', 'back-b']) {
      await stack(name, '1');
      expect((await vault.run('first', rollout(name))).code).toBe(0);
      await stack(name, '2');
    }
    await stack('back-new', '2');
    await stack('back-bad', '1', false);
    const text = file(
      backup(),
      rollout('back-a'),
      rollout('back-new', 'needs: [back-a]\n'),
      rollout('back-b', 'needs: [back-new]\n'),
      rollout('back-bad', 'needs: [back-b]\non_failure: rollback\n'),
      rollout('back-never', 'needs: [back-bad]\n'),
    );
    vault.stack('back-never');
    const { code, log, reason } = await vault.run('back', text);
    expect({ exit: code, reason }, log).toEqual({ exit: 1, reason: 'service-unhealthy' });
    const { receipt, outcomes } = await newest();
    expect(outcomes).toEqual({
      data: 'succeeded',
      'back-a': 'rolled-back',
      'back-new': 'rolled-back',
      'back-b': 'rolled-back',
      'back-bad': 'failed',
      'back-never': 'skipped',
    });
    expect(receipt.documents[1]).toMatchObject({
      steps: expect.arrayContaining([
        { name: 'up again', outcome: 'succeeded', phase: 'undo', ms: expect.any(Number) },
      ]),
    });
    const [change] = receipt.documents[1]?.images ?? [];
    expect(change?.after).toBe(change?.before);
    expect({ a: await says('back-a'), new: await says('back-new'), b: await says('back-b') }).toEqual({
      a: '1',
      new: 'nothing',
      b: '1',
    });
    const undone = [...log.matchAll(/── undo: (up again|down): .*(back-\w+)/g)].map(([, , name]) => name);
    expect(undone, log).toEqual(['back-b', 'back-new', 'back-a']);

    // The restored version is the newest release: before it there is only the state before the first rollout.
    await stack('back-a', '2');
    expect((await vault.run('again', rollout('back-a'))).code).toBe(0);
    expect(await says('back-a')).toBe('2');
    const rolled = await vault.host.chatops(['rollback', 'back-a']);
    expect({ exit: rolled.code, page: await says('back-a') }, rolled.stdout).toEqual({ exit: 0, page: '1' });
  });

  it('a failure with "on_failure: rollback" undoes a restore and brings back the data', async () => {
    const kept = join(data(), 'kept.txt');
    expect((await vault.run('made', backup())).code).toBe(0);
    writeFileSync(kept, 'changed since\n');
    await stack('data-bad', '1', false);
    const restore = `id: back\naction: restore\nof: data\nfrom: ${vault.nas}\nto: ${data()}\nconfirm_overwrite: true\n`;
    const { reason, log } = await vault.run('restored', file(restore, rollout('data-bad', 'on_failure: rollback\n')));
    expect({ reason, outcomes: (await newest()).outcomes }, log).toEqual({
      reason: 'service-unhealthy',
      outcomes: { back: 'rolled-back', 'data-bad': 'failed' },
    });
    expect(readFileSync(kept, 'utf8')).toBe('changed since\n');
  });

  it('an undo that fails is reported with a remedy for the operator', async () => {
    await stack('stuck', '1');
    expect((await vault.run('first', rollout('stuck'))).code).toBe(0);
    await stack('stuck', '2');
    await stack('stuck-bad', '1', false);
    const gate = await freePort();
    // Nothing answers at this address after the rollout: the rollback cannot verify itself.
    const verify = `id: stuck\naction: rollout\nstack: stuck\ntimeout: 60s\nverify: {tcp: {address: "127.0.0.1:${gate}", retries: 1}}\n`;
    const { createServer } = await import('node:net');
    const server = createServer(socket => socket.destroy()).listen(gate, '127.0.0.1');
    const run = vault.run('stuck', file(verify, rollout('stuck-bad', 'on_failure: rollback\n')));
    while ((await says('stuck')) !== '2') await sleep(50);
    while (!(await vault.host.chatops(['logs', await latest()])).stdout.includes('rollout on stuck-bad'))
      await sleep(50);
    server.close();
    const { code, log, reason } = await run;
    expect({ exit: code, reason }, log).toEqual({ exit: 1, reason: 'undo-failed' });
    const { receipt, outcomes } = await newest();
    expect(outcomes).toEqual({ stuck: 'failed', 'stuck-bad': 'failed' });
    expect(receipt).toMatchObject({
      outcome: 'failed',
      changed: true,
      remedy: expect.stringContaining('Look at the host now'),
    });
  });

  it('a file continues after a failure with documents that do not need it or ask for "if: failed"', async () => {
    await stack('on-bad', '1', false);
    for (const name of ['on-other', 'on-mend', 'on-never']) await stack(name, '1');
    const text = file(
      rollout('on-bad', 'on_failure: continue\n'),
      rollout('on-other', 'needs: []\n'),
      rollout('on-never', 'needs: [on-bad]\n'),
      rollout('on-mend', 'needs: [on-bad]\nif: failed\n'),
    );
    const { code, log } = await vault.run('on', text);
    expect(code, log).toBe(1);
    expect((await newest()).outcomes).toEqual({
      'on-bad': 'failed',
      'on-other': 'succeeded',
      'on-never': 'skipped',
      'on-mend': 'succeeded',
    });
    expect(await says('on-never')).toBe('nothing');
  });
});

describe('a graph whose agent is killed', () => {
  /** Returns a compose file whose container ignores SIGTERM: its rollout takes seconds, so that two overlap. */
  const slow = (version: string) =>
    `services:\n  web:\n    image: ${image(version)}\n    pull_policy: never\n    stop_grace_period: 2s\n    command: [sh, -c, "trap : TERM; while :; do sleep 1; done"]\n`;
  const killWhen = async (pattern: RegExp, run: Promise<unknown>, id: () => Promise<string>) => {
    let ended = false;
    run.finally(() => {
      ended = true;
    });
    for (;;) {
      const { stdout } = await vault.host.chatops(['logs', await id()]);
      if (pattern.test(stdout)) break;
      if (ended) throw new Error(`The run ended before it logged ${pattern}:\n${stdout}`);
      await sleep(50);
    }
    await vault.host.stop('SIGKILL');
  };
  const running = (name: string) =>
    docker('ps', '--filter', `label=com.docker.compose.project=${name}`, '--format', '{{.Image}}').trim();

  it('a restarted agent resumes a graph: running documents finish, and the next starts once', async () => {
    for (const name of ['kill-a', 'kill-b']) {
      vault.stack(name, { 'compose.yaml': slow('1') });
      expect((await vault.run('first', `action: rollout\nstack: ${name}\n`)).code).toBe(0);
      vault.stack(name, { 'compose.yaml': slow('2') });
    }
    await stack('kill-after', '1');
    const before = await latest();
    const text = file(
      'id: kill-a\naction: rollout\nstack: kill-a\nneeds: []\n',
      'id: kill-b\naction: rollout\nstack: kill-b\nneeds: []\n',
      rollout('kill-after', 'needs: [kill-a, kill-b]\n'),
    );
    const run = vault.run('kill', text);
    while ((await latest()) === before) await sleep(50);
    await killWhen(/── up:[\s\S]*── up:/, run, latest);
    await vault.host.start(vault.policy);
    const shown = await vault.host.chatops(['logs', await latest(), '--follow']);
    expect(shown.code, shown.stdout).toBe(0);
    expect((await newest()).outcomes).toEqual({
      'kill-a': 'succeeded',
      'kill-b': 'succeeded',
      'kill-after': 'succeeded',
    });
    expect({ killA: running('kill-a'), killB: running('kill-b') }).toEqual({
      killA: image('2'),
      killB: image('2'),
    });
    // Each step starts once: the agent repeats nothing.
    expect(shown.stdout.match(/── up:/g)?.length, shown.stdout).toBe(3);
  });

  it('a restarted agent resumes a graph in the middle of an undo', async () => {
    vault.stack('half', { 'compose.yaml': slow('1') });
    expect((await vault.run('first', 'action: rollout\nstack: half\n')).code).toBe(0);
    vault.stack('half', { 'compose.yaml': slow('2') });
    await stack('half-bad', '1');
    expect((await vault.run('first', rollout('half-bad'))).code).toBe(0);
    await stack('half-bad', '2', false);
    const before = await latest();
    const text = file('id: half\naction: rollout\nstack: half\n', rollout('half-bad', 'on_failure: rollback\n'));
    const run = vault.run('half', text);
    while ((await latest()) === before) await sleep(50);
    await killWhen(/── undo: up again/, run, latest);
    await vault.host.start(vault.policy);
    const shown = await vault.host.chatops(['logs', await latest(), '--follow']);
    expect((await newest()).outcomes, shown.stdout).toEqual({ half: 'rolled-back', 'half-bad': 'rolled-back' });
    expect({ running: running('half'), outcome: (await newest()).receipt.outcome }).toEqual({
      running: image('1'),
      outcome: 'rolled-back',
    });
  });
});
