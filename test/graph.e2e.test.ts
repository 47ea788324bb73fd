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
/** Healthy at once, or never. */
const health = (good: boolean) =>
  `    healthcheck: {test: [CMD, "${good ? 'true' : 'false'}"], interval: 1s, retries: 1, timeout: 10s}\n`;
const ports = new Map<string, number>();
/** The stack's compose file is of that version now. */
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

/** How each document of the newest run ended, by its id, and the receipt. */
async function newest(): Promise<{ receipt: Receipt; outcomes: Record<string, string> }> {
  const [latest] = JSON.parse((await vault.host.chatops(['runs', '--json', '--limit', '1'])).stdout);
  const { receipt } = JSON.parse((await vault.host.chatops(['runs', latest.id, '--json'])).stdout);
  return {
    receipt,
    outcomes: Object.fromEntries((receipt as Receipt).documents.map(one => [one.id, one.outcome])),
  };
}

describe('a file of several documents', () => {
  it('carries them out side by side where nothing is between them, and tells each line’s document', async () => {
    for (const name of ['side-a', 'side-b']) await stack(name, '1');
    const text = file(backup(), rollout('side-a', 'needs: [data]\n'), rollout('side-b', 'needs: [data]\n'));
    const { code, log } = await vault.run('side', text);
    expect(code, log).toBe(0);
    expect(log).toContain('2. side-a: rollout on side-a (after data)');
    expect(log).toContain('side-a: ── pull');
    expect(log).toMatch(/side-b: .*Container side-b-web-1 {2}Started/);
    const { receipt, outcomes } = await newest();
    expect(outcomes).toEqual({ data: 'succeeded', 'side-a': 'succeeded', 'side-b': 'succeeded' });
    expect(receipt.documents[1]).toMatchObject({ restore_points: [{ name: 'data' }] });
    const order = log.split('\n').filter(line => /(side-[ab]: ── up|✓ up)/.test(line));
    // Both had begun before one had ended.
    expect(
      order.slice(0, 2).every(line => line.includes('── up')),
      order.join('\n'),
    ).toBe(true);
  });

  it('undoes what had succeeded, the last first, where one fails that says "rollback"', async () => {
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
    expect(await Promise.all(['back-a', 'back-new', 'back-b'].map(says))).toEqual(['1', 'nothing', '1']);
    const undone = [...log.matchAll(/── undo: (up again|down): .*(back-\w+)/g)].map(([, , name]) => name);
    expect(undone, log).toEqual(['back-b', 'back-new', 'back-a']);

    // What was put back is the newest release: before it there is only what was before the first rollout.
    await stack('back-a', '2');
    expect((await vault.run('again', rollout('back-a'))).code).toBe(0);
    expect(await says('back-a')).toBe('2');
    const rolled = await vault.host.chatops(['rollback', 'back-a']);
    expect({ exit: rolled.code, page: await says('back-a') }, rolled.stdout).toEqual({ exit: 0, page: '1' });
  });

  it('undoes a restore too: the data are what they were', async () => {
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

  it('says so where something could not be undone, and by hand how', async () => {
    await stack('stuck', '1');
    expect((await vault.run('first', rollout('stuck'))).code).toBe(0);
    await stack('stuck', '2');
    await stack('stuck-bad', '1', false);
    const gate = await freePort();
    // Once it is replaced nothing answers there any more: the way back can't prove itself.
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

  it('goes on after a failure with what does not need it, and with what asks for failures', async () => {
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
  /** Two things that go on at the same time for three seconds, and what comes after both. */
  const slow = (version: string) =>
    `services:\n  web:\n    image: ${image(version)}\n    pull_policy: never\n    stop_grace_period: 2s\n    command: [sh, -c, "trap : TERM; while :; do sleep 1; done"]\n`;
  const killWhen = async (said: RegExp, run: Promise<unknown>, id: () => Promise<string>) => {
    let ended = false;
    run.finally(() => {
      ended = true;
    });
    for (;;) {
      const { stdout } = await vault.host.chatops(['logs', await id()]);
      if (said.test(stdout)) break;
      if (ended) throw new Error(`It ended before it said ${said}:\n${stdout}`);
      await sleep(50);
    }
    await vault.host.stop('SIGKILL');
  };
  const running = (name: string) =>
    docker('ps', '--filter', `label=com.docker.compose.project=${name}`, '--format', '{{.Image}}').trim();

  it('is taken up: both go on to their ends, what comes after begins once', async () => {
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
    await killWhen(/kill-[ab]: ── up[\s\S]*kill-[ab]: ── up/, run, latest);
    await vault.host.start(vault.policy);
    const shown = await vault.host.chatops(['logs', await latest(), '--follow']);
    expect(shown.code, shown.stdout).toBe(0);
    expect((await newest()).outcomes).toEqual({
      'kill-a': 'succeeded',
      'kill-b': 'succeeded',
      'kill-after': 'succeeded',
    });
    expect({ runningKillA: running('kill-a'), runningKillB: running('kill-b') }).toEqual({
      runningKillA: image('2'),
      runningKillB: image('2'),
    });
    // Each step began once: nothing was carried out twice.
    expect(shown.stdout.match(/── up:/g)?.length, shown.stdout).toBe(3);
  });

  it('is taken up in the middle of undoing', async () => {
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
