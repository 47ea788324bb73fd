import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../agent/config/load.ts';
import type { ListedSchedule } from '../agent/store/schedules.ts';
import { World } from './stand/world.ts';

let world: World;
let folder: string;
const schedule = (changes: object) => ({ name: 'nightly', cron: '0 3 * * *', intent: 'up', ...changes });
const config = (schedules: object[], allow: object = { actions: ['rollout'], stacks: ['own'] }) => ({
  intents_dir: folder,
  schedules,
  trust: [
    {
      name: 'homelab',
      key: world.host.keys.public,
      repository: 'org/homelab',
      allow: [{ actions: ['rollout'], stacks: ['*'] }],
    },
    { name: 'own', local: 'schedule', allow: [allow] },
  ],
});
beforeAll(() => {
  world = new World();
  folder = join(world.dir, 'intents');
  mkdirSync(folder);
  world.stack('own', {
    'compose.yaml':
      'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
  });
  // A schedule has no pull request, so the agent does not ask for the label.
  writeFileSync(
    join(folder, 'up.yaml'),
    'params: {stack: {type: string}}\nlabel_required: x\naction: rollout\nstack: "{{ params.stack }}"\n',
  );
});
afterAll(() => world[Symbol.asyncDispose]());
const listed = async () => JSON.parse((await world.host.chatops(['schedule', '--json'])).stdout) as ListedSchedule[];
const runs = async () =>
  JSON.parse((await world.host.chatops(['runs', '--json'])).stdout) as { id: string; outcome: string; title: string }[];
const audit = async (event: string) => (await world.host.audit()).filter(row => row.event === event);

describe('a schedule of agent.yaml', () => {
  it('starts runs that its own trust entry allows, and continues after a restart of the agent', {
    timeout: 90_000,
  }, async () => {
    await world.host.start(config([schedule({ cron: '*/2 * * * * *', params: { stack: 'own' } })]));
    await expect
      .poll(async () => (await runs()).filter(({ outcome }) => outcome === 'succeeded').length, { timeout: 30_000 })
      .toBeGreaterThan(0);
    await world.host.stop();
    const before = (await audit('schedule-begun')).length;
    await world.host.start();
    await world.host.stop();
    await world.host.start(config([schedule({ cron: '*/2 * * * * *', params: { stack: 'own' } })]));
    await expect.poll(async () => (await audit('schedule-begun')).length, { timeout: 20_000 }).toBeGreaterThan(before);
    const [lastRun] = (await audit('run-begun')).slice(-1);
    expect(lastRun).toMatchObject({ trust: 'own', rules: ['allow.1'], actor: 'nightly', repository: 'local/host' });
    expect((await runs()).every(({ id }) => id.startsWith('schedule-'))).toBe(true);
    const metrics = await world.host.metrics();
    expect(metrics).toMatch(/chatops_schedule_next_timestamp_seconds\{schedule="nightly"\} 1\d{9}/);
    expect(metrics).toMatch(/chatops_schedule_times_total\{schedule="nightly",outcome="begun"\} [1-9]/);
    await world.host.stop();
  });

  it('refuses a scheduled run that its trust entry does not allow or that has no valid intent, and logs the reason', {
    timeout: 60_000,
  }, async () => {
    await world.host.start(
      config([schedule({ cron: '*/2 * * * * *', params: { stack: 'own' } })], {
        actions: ['rollout'],
        stacks: ['other'],
      }),
    );
    await expect
      .poll(async () => (await audit('schedule-failed')).at(-1)?.why, { timeout: 20_000 })
      .toMatch(/does not allow this key to change own/);
    await world.host.stop();
    await world.host.start(config([schedule({ cron: '*/2 * * * * *', intent: 'none' })]));
    await expect
      .poll(async () => (await audit('schedule-failed')).at(-1)?.why, { timeout: 20_000 })
      .toMatch(/ENOENT.*none\.yaml/);
    await world.host.stop();
    await world.host.start(config([schedule({ cron: '*/2 * * * * *' })]));
    await expect
      .poll(async () => (await audit('schedule-failed')).at(-1)?.why, { timeout: 20_000 })
      .toMatch(/params\.stack|"stack"/);
    expect(await world.host.metrics()).toMatch(
      /chatops_schedule_times_total\{schedule="nightly",outcome="failed"\} [1-9]/,
    );
    await world.host.stop();
  });

  it('lists a schedule with its next time', async () => {
    await world.host.start(config([schedule({ timezone: 'Europe/Berlin', params: { stack: 'own' } })]));
    const [nightly] = await listed();
    expect(nightly).toMatchObject({ name: 'nightly', intent: 'up', timezone: 'Europe/Berlin' });
    expect(new Date(nightly?.next ?? '').toISOString()).toMatch(/T0[12]:00:00\.000Z$/);
    expect((await world.host.chatops(['schedule'])).stdout).toMatch(/^nightly +next \d{4}-\d\d-\d\d 0[12]:00:00 UTC/);
    await world.host.stop();
  });

  it.each<[string, (all: ReturnType<typeof config>) => unknown, RegExp]>([
    ['without a trust entry of its own', all => ({ ...all, trust: all.trust.slice(0, 1) }), /local: schedule/],
    ['whose time never comes', all => ({ ...all, schedules: [schedule({ cron: '0 0 31 2 *' })] }), /it never comes/],
    [
      'with an invalid cron expression',
      all => ({ ...all, schedules: [schedule({ cron: 'soon' })] }),
      /Expected a cron expression that fires/,
    ],
    ['with an unknown time zone', all => ({ ...all, schedules: [schedule({ timezone: 'Mars' })] }), /Expected a zone/],
    ['with the name of another schedule', all => ({ ...all, schedules: [schedule({}), schedule({})] }), /used twice/],
    [
      'whose trust entry has a key',
      all => ({ ...all, trust: [{ ...all.trust[1], key: world.host.keys.public }] }),
      /the host itself starts these runs/,
    ],
    [
      'next to a trust entry without a repository',
      all => ({ ...all, trust: [{ ...all.trust[0], repository: undefined }, all.trust[1]] }),
      /Expected "repository"/,
    ],
  ])('refuses a configuration with a schedule %s', (_, change, message) => {
    const all = { agent: 'whitebox', ...config([schedule({})]) };
    expect(() => parseConfig(JSON.stringify(change(all as never)), 'agent.yaml')).toThrow(message);
  });
});
