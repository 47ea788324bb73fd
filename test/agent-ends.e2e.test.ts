import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReceiptDocument } from '../protocol/receipt.ts';
import { freePort } from './stand/host.ts';
import { docker, LABEL, World, webStack } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World().start();
});
afterAll(() => world[Symbol.asyncDispose]());

const HEALTH =
  '    healthcheck: {test: [CMD, sh, -c, "test -e /ok || { touch /ok; exit 1; }"], interval: 3s, retries: 5}\n';
/** Ignores SIGTERM, so that the engine needs four seconds to stop it. */
const STUBBORN = '    command: [sh, -c, "trap : TERM; while :; do sleep 1; done"]\n    init: false\n';
const image = (version: string) => `chatops-test/web:${version}`;
const stubborn = (version: string) =>
  `services:\n  web:\n    image: ${image(version)}\n    pull_policy: never\n    stop_grace_period: 4s\n${STUBBORN}`;

/** Starts a job for the stack, and returns it when its log contains a text. */
async function jobAt(text: string, stack: string, files: Record<string, string>, intent = '') {
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n${intent}`,
    ...files,
  });
  let seen = () => {};
  const textSeen = new Promise<void>(done => {
    seen = done;
  });
  const job = world.begin(merge, 'it', { onLog: chunk => chunk.includes(text) && seen() });
  await Promise.race([textSeen, job.finished]);
  return { ...job, merge };
}

/** A job whose rollout waits for a health check that passes after some seconds. */
async function waitingJob(stack: string) {
  world.stack(stack, { 'compose.yaml': webStack(image('1'), await freePort(), HEALTH) });
  return jobAt('health check has not passed yet', stack, {});
}

/** A job whose second rollout waits while the engine stops a slow container. */
async function stoppingJob(stack: string) {
  world.stack(stack);
  const compose = `stacks/${stack}/compose.yaml`;
  const intent = `source_dir: stacks/${stack}\n`;
  const first = await jobAt('no such text', stack, { [compose]: stubborn('1') }, intent);
  expect((await first.finished).outputs.status).toBe('succeeded');
  return jobAt('Recreate', stack, { [compose]: stubborn('2') }, intent);
}

const stepsOf = (result: string | undefined) =>
  (JSON.parse(result ?? '').receipts[0].documents as ReceiptDocument[]).flatMap(({ steps }) =>
    steps.map(({ name, outcome }) => ({ name, outcome })),
  );
const running = (stack: string) =>
  docker('ps', '--format', '{{.Names}} {{.Image}}', '--filter', `label=com.docker.compose.project=${stack}`).trim();
/** Processes of the run's steps and its supervisor. */
function processesOf(run: string): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(
          `CHATOPS_STEP=${join(world.host.state, 'runs', run)}`,
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

describe('an agent that ends during a run', () => {
  it('stops at once on SIGTERM, and the next agent finishes the run', async () => {
    const job = await waitingJob('stack-term');
    const child = world.host.child as NonNullable<typeof world.host.child>;
    const began = Date.now();
    child.kill('SIGTERM');
    const [exit, signal] = await once(child, 'exit');
    expect({ exit, signal }).toEqual({ exit: 0, signal: null });
    expect(Date.now() - began).toBeLessThan(5_000);
    expect((await world.host.audit()).at(-1)).toMatchObject({ event: 'stopped' });
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect({ status: outputs.status, reason: outputs.reason }, log).toEqual({ status: 'succeeded', reason: '' });
    expect(stepsOf(outputs.result).filter(({ name }) => name === 'up')).toEqual([{ name: 'up', outcome: 'succeeded' }]);
  });

  it('is killed while it waits for health: the next agent keeps waiting, and the job shows the whole log', async () => {
    const job = await waitingJob('stack-kill');
    await world.host.stop('SIGKILL');
    await sleep(1_000);
    await world.host.start();
    const { outputs, log, code } = await job.finished;
    expect({ status: outputs.status, reason: outputs.reason, exit: code }, log).toEqual({
      status: 'succeeded',
      reason: '',
      exit: 0,
    });
    expect(log).toContain('connection lost; reconnecting');
    expect(log.match(/::group::up\n/g)).toHaveLength(1);
    expect((await world.host.audit()).some(({ event }) => event === 'run-resumed')).toBe(true);
  });

  it('is killed while compose works: compose continues, and the next agent reads its result', async () => {
    const job = await stoppingJob('stack-mid');
    await world.host.stop('SIGKILL');
    await sleep(1_000);
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect(outputs.status, log).toBe('succeeded');
    expect(log).not.toContain('the step runs again');
    expect(running('stack-mid')).toBe(`stack-mid-web-1 ${image('2')}`);
  });

  it('reads the stored exit code if compose finished while no agent ran', async () => {
    const job = await stoppingJob('stack-late');
    await world.host.stop('SIGKILL');
    await sleep(7_000);
    expect(running('stack-late')).toBe(`stack-late-web-1 ${image('2')}`);
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect(outputs.status, log).toBe('succeeded');
    expect(log).not.toContain('the step runs again');
  });

  it('is killed together with its processes: the next agent repeats the interrupted step, and no container stays down', async () => {
    const job = await stoppingJob('stack-all');
    const run = String((await world.host.audit()).findLast(({ event }) => event === 'run-begun')?.run);
    await world.host.stop('SIGKILL');
    const pids = processesOf(run);
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of [...supervisors(), ...pids]) process.kill(pid, 'SIGKILL');
    await sleep(500);
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect(outputs.status, log).toBe('succeeded');
    expect(log).toContain('The exit code is unknown; the step runs again, which is safe.');
    expect(running('stack-all')).toBe(`stack-all-web-1 ${image('2')}`);
    const left = docker(
      'ps',
      '--all',
      '--format',
      '{{.Names}}',
      '--filter',
      'label=com.docker.compose.project=stack-all',
    );
    expect(left.trim()).toBe('stack-all-web-1');
  });
});

/** Supervisors of this host’s agent. */
function supervisors(): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
        const home = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
        return argv.includes('keeper') && home.includes(`HOME=${world.host.dir}`);
      } catch {
        return false;
      }
    })
    .map(Number);
}
