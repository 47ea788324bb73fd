import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from './stand/runner.ts';
import { docker, LABEL, slowStack, World } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World().start();
});
afterAll(() => world[Symbol.asyncDispose]());

const intent = (stack: string) => ({
  'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\nsource_dir: stacks/${stack}\n`,
});
const running = (stack: string) =>
  docker('ps', '--format', '{{.Names}} {{.Image}}', '--filter', `label=com.docker.compose.project=${stack}`).trim();

/** Starts a job that rolls out the version, and returns it when its log contains a text. */
async function jobAt(text: string, stack: string, version: string, changes: Partial<Job> = {}) {
  const merge = world.merge({ ...intent(stack), [`stacks/${stack}/compose.yaml`]: slowStack(version) });
  let seen = () => {};
  const textSeen = new Promise<void>(done => {
    seen = done;
  });
  const job = world.begin(merge, 'it', { ...changes, onLog: chunk => chunk.includes(text) && seen() });
  await Promise.race([textSeen, job.finished]);
  return { ...job, merge };
}
async function rolledOut(stack: string): Promise<void> {
  world.stack(stack);
  const job = await jobAt('no such text', stack, '1');
  expect((await job.finished).outputs.status).toBe('succeeded');
}

describe('a cancelled job', () => {
  it('stops compose, starts the previous version again, and reports both in its log and summary', async () => {
    await rolledOut('cancel-up');
    const job = await jobAt('Recreate', 'cancel-up', '2');
    job.child.kill('SIGINT');
    const { outputs, code, log, summary } = await job.finished;
    expect({ status: outputs.status, reason: outputs.reason, changed: outputs.changed, exit: code }, log).toEqual({
      status: 'cancelled',
      reason: 'cancelled',
      changed: 'false',
      exit: 1,
    });
    expect(log).toContain('The agent stops the run and undoes it.');
    expect(log).toContain('The previous version is running again.');
    expect(summary).toContain('cancelled');
    expect(running('cancel-up')).toBe('cancel-up-web-1 chatops-test/web:1');
    expect(await world.host.audit()).toContainEqual(
      expect.objectContaining({ event: 'run-cancelled', by: expect.objectContaining({ actor: 'octocat' }) }),
    );
  });

  it('reports the end of the run in its post step if the job is killed first', async () => {
    await rolledOut('cancel-post');
    const job = await jobAt('Recreate', 'cancel-post', '2');
    job.child.stdout?.on('data', chunk => String(chunk).includes('The agent stops') && job.child.kill('SIGKILL'));
    job.child.kill('SIGINT');
    const { state } = await job.finished;
    const post = await world.post(job.merge, state);
    expect(post.log).toMatch(/ended on the host: cancelled\. .*The previous version is running again/);
    expect(running('cancel-post')).toBe('cancel-post-web-1 chatops-test/web:1');
  });

  it('leaves the lock queue when it waits for another run, and the other run continues', async () => {
    await rolledOut('cancel-wait');
    const first = await jobAt('Recreate', 'cancel-wait', '2');
    const second = await jobAt('waiting for run', 'cancel-wait', '3');
    second.child.kill('SIGTERM');
    const { outputs } = await second.finished;
    expect({ status: outputs.status, changed: outputs.changed }).toEqual({ status: 'cancelled', changed: 'false' });
    expect((await first.finished).outputs.status).toBe('succeeded');
    expect(running('cancel-wait')).toBe('cancel-wait-web-1 chatops-test/web:2');
  });

  it('cancels its run also if the agent is killed and restarts meanwhile', async () => {
    await rolledOut('cancel-kill');
    const job = await jobAt('Recreate', 'cancel-kill', '2');
    job.child.kill('SIGINT');
    const last = await lastRun();
    while (!(await world.host.audit()).some(({ event, run }) => event === 'run-cancelled' && run === last))
      await sleep(10);
    await world.host.stop('SIGKILL');
    await world.host.start();
    const { outputs, log } = await job.finished;
    expect({ status: outputs.status, reason: outputs.reason }, log).toEqual({
      status: 'cancelled',
      reason: 'cancelled',
    });
    expect(running('cancel-kill')).toBe('cancel-kill-web-1 chatops-test/web:1');
  });

  it('sends nothing if it has not reached an agent', async () => {
    world.stack('cancel-early');
    const job = await jobAt('::add-mask::', 'cancel-early', '1', { inputs: { agent: 'ws://127.0.0.1:1' } });
    job.child.kill('SIGINT');
    const [code] = await once(job.child, 'exit');
    expect(code).toBe(1);
    const { log, state } = await job.finished;
    expect(log).toMatch(/The job was stopped \(SIGINT\)/);
    expect(running('cancel-early')).toBe('');
    expect((await world.post(job.merge, state)).ms).toBeLessThan(5_000);
  });

  it('looks for no run in its post step if it could not reach an agent', async () => {
    world.stack('cancel-none');
    const job = await jobAt('no such text', 'cancel-none', '1', {
      inputs: { agent: 'ws://127.0.0.1:1', 'connect-timeout': '1s' },
    });
    const { outputs, state } = await job.finished;
    expect(outputs.reason).toBe('agent-unreachable');
    const post = await world.post(job.merge, state);
    expect({ logNamesAgent: post.log.includes('agent'), endsWithin5s: post.ms < 5_000 }, post.log).toEqual({
      logNamesAgent: false,
      endsWithin5s: true,
    });
  });
});

async function lastRun(): Promise<unknown> {
  return (await world.host.audit()).findLast(({ event }) => event === 'run-begun')?.run;
}
