import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { LABEL, World, webStack } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World().start();
});
afterAll(() => world[Symbol.asyncDispose]());

/** A job whose rollout waits for a health check that passes after some seconds, at the moment when it waits. */
async function waitingJob(stack: string) {
  const health =
    '    healthcheck: {test: [CMD, sh, -c, "test -e /ok || { touch /ok; exit 1; }"], interval: 3s, retries: 5}\n';
  world.stack(stack, { 'compose.yaml': webStack('chatops-test/web:1', await freePort(), health) });
  const merge = world.merge({
    'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n`,
  });
  let seen = () => {};
  const waits = new Promise<void>(done => {
    seen = done;
  });
  const job = world.begin(merge, 'it', { onLog: chunk => chunk.includes('health check has not passed yet') && seen() });
  await waits;
  return job;
}

describe('an agent that ends while a run is in flight', () => {
  it('by SIGTERM: carries the run to its end, tells it, and then stops', async () => {
    const job = await waitingJob('stack-term');
    const exited = once(world.host.child as NonNullable<typeof world.host.child>, 'exit');
    world.host.child?.kill('SIGTERM');
    expect((await job.finished).outputs.status).toBe('succeeded');
    expect(await exited).toEqual([0, null]);
    expect(world.host.audit().at(-1)).toMatchObject({ event: 'stopped' });
    await world.host.start();
  });

  it('by SIGKILL: the next one says that it was interrupted, and the job says so too, with the whole log', async () => {
    const job = await waitingJob('stack-kill');
    await world.host.stop('SIGKILL');
    await world.host.start();
    const { outputs, log, code } = await job.finished;
    expect([outputs.status, outputs.reason, code]).toEqual(['interrupted', 'agent-ended', 1]);
    expect(log).toContain('connection lost; coming back');
    const [receipt] = JSON.parse(outputs.result ?? '').receipts;
    expect(receipt.events).toBeGreaterThan(10);
  });
});
