import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { committed, labeled, merged } from './doubles/github-events.ts';
import { LABEL, World } from './stand/world.ts';

const stack = (version: string) =>
  `services: {web: {image: "chatops-test/web:${version}", pull_policy: never, init: true, stop_grace_period: 0s}}\n`;
const intent = (more = '') => ({
  'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: planned\n${more}`,
});

let world: World;
beforeAll(async () => {
  world = await new World({
    allow: [{ actions: ['rollout'], stacks: ['planned'], require_plan_digest: true, min_approvals: 1 }],
  }).start();
  world.stack('planned', { 'compose.yaml': stack('1') });
});
afterAll(() => world[Symbol.asyncDispose]());

/** A merge with a review of its last commit. */
function reviewed(files: Record<string, string>, state = 'APPROVED') {
  const merge = world.merge(files);
  const pull = world.github.pulls.get(merge.number);
  pull?.reviews.push({ state, user: { login: 'octocat' }, commit_id: pull.headSha });
  return merge;
}

describe('a rule that requires approvals and a plan', () => {
  it('admits a deployment that names the digest of its plan', async () => {
    const merge = reviewed(intent());
    const plan = await world.deploy(merge, 'up', { inputs: { mode: 'plan' } });
    expect(plan.outputs, plan.log).toMatchObject({
      status: 'planned',
      'plan-digest': expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    const without = await world.deploy(merge, 'up');
    expect({ exit: without.code, reason: without.outputs.reason }).toEqual({ exit: 1, reason: 'plan-digest-missing' });
    const digest = plan.outputs['plan-digest'] ?? '';
    const job = await world.deploy(merge, 'up', { inputs: { 'plan-digest': digest } });
    expect({ status: job.outputs.status, planDigest: job.outputs['plan-digest'] }, job.log).toEqual({
      status: 'succeeded',
      planDigest: '',
    });
    expect(JSON.parse(job.outputs.result ?? '').receipts[0].documents[0].rule).toBe('allow.1');
    const [row] = (await world.host.audit()).filter(({ event, type }) => event === 'run-begun' && type === 'run');
    expect(row).toMatchObject({ rules: ['allow.1'], trust: 'homelab' });
  });

  it('refuses a deployment if the host has changed since its plan, and changes nothing', async () => {
    const merge = reviewed(intent('timeout: 4m\n'));
    const plan = await world.deploy(merge, 'up', { inputs: { mode: 'plan' } });
    writeFileSync(join(world.host.stacks, 'planned', 'compose.yaml'), stack('2'));
    const job = await world.deploy(merge, 'up', { inputs: { 'plan-digest': plan.outputs['plan-digest'] ?? '' } });
    expect(
      {
        reason: job.outputs.reason,
        changed: job.outputs.changed,
        logShowsCompose: job.log.includes('docker compose'),
      },
      job.log,
    ).toEqual({ reason: 'plan-changed', changed: 'false', logShowsCompose: false });
    const again = await world.deploy(merge, 'up', { inputs: { mode: 'plan' } });
    const done = await world.deploy(merge, 'up', { inputs: { 'plan-digest': again.outputs['plan-digest'] ?? '' } });
    expect(done.outputs.status, done.log).toBe('succeeded');
  });

  it.each<[string, (head: string) => { state: string; user: { login: string }; commit_id: string }[]]>([
    ['it has no review', () => []],
    [
      'its review is of an earlier commit',
      () => [{ state: 'APPROVED', user: { login: 'octocat' }, commit_id: 'e'.repeat(40) }],
    ],
    [
      'its approval was dismissed',
      head => [
        { state: 'APPROVED', user: { login: 'octocat' }, commit_id: head },
        { state: 'DISMISSED', user: { login: 'octocat' }, commit_id: head },
      ],
    ],
    ['its reviewer has no permission', head => [{ state: 'APPROVED', user: { login: 'passer-by' }, commit_id: head }]],
    ['its review is a comment', head => [{ state: 'COMMENTED', user: { login: 'octocat' }, commit_id: head }]],
  ])('refuses a deployment if %s', async (_, reviews) => {
    const merge = world.merge(intent(), head => [committed(head), labeled(LABEL), merged()]);
    const pull = world.github.pulls.get(merge.number);
    pull?.reviews.push(...reviews(pull.headSha));
    const job = await world.deploy(merge, 'up', { inputs: { 'plan-digest': '0'.repeat(64) } });
    expect({ exit: job.code, reason: job.outputs.reason }, job.log).toEqual({ exit: 1, reason: 'approvals-missing' });
  });

  it('refuses a malformed digest before the action sends anything', async () => {
    const job = await world.deploy(reviewed(intent()), 'up', { inputs: { 'plan-digest': 'yes' } });
    expect({ exit: job.code, reason: job.outputs.reason }).toEqual({ exit: 1, reason: 'input-invalid' });
  });
});

describe('a trust entry with a rate', () => {
  it('refuses runs above its rate, but still admits a plan', async () => {
    await world.host.stop();
    await world.host.start({
      trust: [
        {
          name: 'limited',
          key: world.host.keys.public,
          repository: 'org/homelab',
          rate: { runs: 1, per: '1h' },
          allow: [{ actions: ['rollout'], stacks: ['planned'] }],
        },
      ],
    });
    const merge = world.merge(intent());
    expect((await world.deploy(merge, 'up')).outputs.status).toBe('succeeded');
    const over = await world.deploy(merge, 'up');
    expect({ reason: over.outputs.reason, logNamesRate: over.log.includes('1 runs of the last 1h') }, over.log).toEqual(
      { reason: 'run-rate-reached', logNamesRate: true },
    );
    expect((await world.deploy(merge, 'up', { inputs: { mode: 'plan' } })).outputs.status).toBe('planned');
    expect(await world.host.metrics()).toContain('chatops_auth_failures_total{reason="rate_limited"} 1');
  });
});
