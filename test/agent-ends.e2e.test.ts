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
/** Takes four seconds to be stopped. */
const STUBBORN = '    command: [sh, -c, "trap : TERM; while :; do sleep 1; done"]\n    init: false\n';
const image = (version: string) => `chatops-test/web:${version}`;
const stubborn = (version: string) =>
  `services:\n  web:\n    image: ${image(version)}\n    pull_policy: never\n    stop_grace_period: 4s\n${STUBBORN}`;

/** A job of that stack, at the moment when its log says a text. */
async function jobAt(text: string, stack: string, files: Record<string, string>, intent = '') {
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n${intent}`,
    ...files,
  });
  let seen = () => {};
  const waits = new Promise<void>(done => {
    seen = done;
  });
  const job = world.begin(merge, 'it', { onLog: chunk => chunk.includes(text) && seen() });
  await Promise.race([waits, job.finished]);
  return { ...job, merge };
}

/** A job whose rollout waits for a health check that passes after some seconds. */
async function waitingJob(stack: string) {
  world.stack(stack, { 'compose.yaml': webStack(image('1'), await freePort(), HEALTH) });
  return jobAt('health check has not passed yet', stack, {});
}

/** A job whose second rollout is being stopped by a container that takes its time. */
async function stoppingJob(stack: string) {
  world.stack(stack);
  const compose = `stacks/${stack}/compose.yaml`;
  const intent = `source_dir: stacks/${stack}\n`;
  const first = await jobAt('no such text', stack, { [compose]: stubborn('1') }, intent);
  expect((await first.finished).outputs.status).toBe('succeeded');
  return jobAt('Recreate', stack, { [compose]: stubborn('2') }, intent);
}

const stepsOf = (result: string | undefined): [string, string][] =>
  (JSON.parse(result ?? '').receipts[0].documents as ReceiptDocument[]).flatMap(({ steps }) =>
    steps.map(({ name, outcome }): [string, string] => [name, outcome]),
  );
const running = (stack: string) =>
  docker('ps', '--format', '{{.Names}} {{.Image}}', '--filter', `label=com.docker.compose.project=${stack}`).trim();
/** Processes of the run's steps and its keeper. */
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

describe('an agent that ends while a run is in flight', () => {
  it('by SIGTERM: stops at once, and the next one carries the run to its end', async () => {
    const job = await waitingJob('stack-term');
    const child = world.host.child as NonNullable<typeof world.host.child>;
    const began = Date.now();
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(Date.now() - began).toBeLessThan(5_000);
    expect((await world.host.audit()).at(-1)).toMatchObject({ event: 'stopped' });
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect({ status: outputs.status, reason: outputs.reason }, log).toEqual({ status: 'succeeded', reason: '' });
    expect(stepsOf(outputs.result).filter(([name]) => name === 'up')).toEqual([['up', 'succeeded']]);
  });

  it('by SIGKILL while it waits for health: the next one waits on, and the job shows the whole log', async () => {
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

  it('by SIGKILL in the middle of compose’s work: compose goes on, and its end is taken over', async () => {
    const job = await stoppingJob('stack-mid');
    await world.host.stop('SIGKILL');
    await sleep(1_000);
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect(outputs.status, log).toBe('succeeded');
    expect(log).not.toContain('the step runs again');
    expect(running('stack-mid')).toBe(`stack-mid-web-1 ${image('2')}`);
  });

  it('after compose had ended unseen: its exit code was written down', async () => {
    const job = await stoppingJob('stack-late');
    await world.host.stop('SIGKILL');
    await sleep(7_000);
    expect(running('stack-late')).toBe(`stack-late-web-1 ${image('2')}`);
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect(outputs.status, log).toBe('succeeded');
    expect(log).not.toContain('the step runs again');
  });

  it('together with all that it had started: what was half done is done again, and nothing stays down', async () => {
    const job = await stoppingJob('stack-all');
    const run = String((await world.host.audit()).findLast(({ event }) => event === 'run-begun')?.run);
    await world.host.stop('SIGKILL');
    const pids = processesOf(run);
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of [...keepersOf(), ...pids]) process.kill(pid, 'SIGKILL');
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

/** Keepers of this host’s agent. */
function keepersOf(): number[] {
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
