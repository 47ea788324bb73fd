import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAST_CLOCK } from './doubles/fast-clock.ts';
import { merged, type Pull, pullRequestEvent } from './doubles/github-events.ts';
import type { Finished } from './stand/runner.ts';
import { LABEL, type Merge, World } from './stand/world.ts';

const STACK =
  'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s, network_mode: none}}\n';
const INTENT = (stack: string) =>
  `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\nsource_dir: stacks/${stack}\n`;

let world: World;
beforeAll(async () => {
  world = await new World().start();
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
  world.github.failures.length = 0;
});

const codeOf = ({ outputs }: Finished) => (outputs.status === 'refused' ? (outputs.reason ?? '') : outputs.status);
const resultOf = ({ outputs }: Finished) => JSON.parse(outputs.result ?? '');
/** Merges and deploys the first version of a stack. */
async function begin(stack: string): Promise<Merge> {
  world.stack(stack);
  const merge = world.merge({
    [`chatops/intents/${stack}.yaml`]: INTENT(stack),
    [`stacks/${stack}/compose.yaml`]: STACK,
  });
  const job = await world.deploy(merge, stack);
  expect(job.outputs.status, job.log).toBe('succeeded');
  return merge;
}
const change = (stack: string, note: string, timeline?: () => ReturnType<typeof merged>[]) =>
  world.merge({ [`stacks/${stack}/note`]: note }, timeline);

/** Starts a job, and lets another one finish while the first one asks GitHub about a comparison. */
async function overtake(stack: string, from: Merge, first: Merge, second: Merge): Promise<Finished> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const path = `/compare/${from.sha}...${first.before}`;
  world.github.failures.push({ path, after: promise });
  const { finished } = world.begin(first, stack);
  await expect.poll(() => world.github.asked.includes(path)).toBe(true);
  const other = await world.deploy(second, stack);
  expect(other.outputs.status, other.log).toBe('succeeded');
  resolve();
  return finished;
}

describe('a job that another one overtakes', () => {
  it('gathers its evidence once more, and deploys if its commit is newer', async () => {
    const first = await begin('newer');
    const older = change('newer', 'two');
    const newer = change('newer', 'three');
    const job = await overtake('newer', first, newer, older);
    expect({ code: codeOf(job), deployed: job.log.match(/once more/g)?.length }, job.log).toEqual({
      code: 'succeeded',
      deployed: 1,
    });
    expect(job.log).toContain(
      `The host has deployed "newer" at ${older.sha.slice(0, 8)} since the evidence was gathered. Gathering the evidence once more.`,
    );
  });

  it('is refused if its commit is older', async () => {
    const first = await begin('older');
    world.merge({ 'README.md': 'between\n' });
    const older = change('older', 'two');
    const newer = change('older', 'three');
    const job = await overtake('older', first, older, newer);
    expect({ code: codeOf(job), again: job.log.includes('once more') }, job.log).toEqual({
      code: 'older-than-deployed',
      again: true,
    });
  });
});

describe('a plan', () => {
  const plan = (merge: Merge, changes: object = {}) =>
    world.deploy(merge, 'planned', { inputs: { mode: 'plan' }, ...changes });

  it('names the changes that would stop a deployment, with their pages, and is made all the same', async () => {
    world.stack('planned');
    const intent = world.merge({
      'chatops/intents/planned.yaml': INTENT('planned'),
      'stacks/planned/compose.yaml': STACK,
    });
    const first = await plan(intent);
    expect({ code: codeOf(first), waiting: resultOf(first).waiting }, first.log).toEqual({
      code: 'planned',
      waiting: [],
    });
    const deployed = await world.deploy(intent, 'planned');
    expect(deployed.outputs.status, deployed.log).toBe('succeeded');
    const { baseline } = resultOf(deployed).receipts[0].documents[0];
    // Other stacks of the repository were deployed before, in the tests above.
    expect(baseline).toBeUndefined();

    const unlabelled = change('planned', 'two', () => [merged()]);
    const readme = world.merge({ 'README.md': 'planned\n' });
    const missing = {
      code: 'label-missing',
      commit: unlabelled.sha,
      pull_request: unlabelled.number,
      message: `Pull request #${unlabelled.number} did not have the label "${LABEL}" when it was merged. https://github.com/org/homelab/pull/${unlabelled.number}`,
      remedy: expect.stringContaining('Nothing was deployed. Revert the pull request'),
    };
    const job = await plan(readme);
    expect({ code: codeOf(job), exit: job.code, waiting: resultOf(job).waiting }, job.log).toEqual({
      code: 'planned',
      exit: 0,
      waiting: [missing],
    });
    expect(job.log).toContain(`A deployment would be refused: label-missing: ${missing.message}`);
    expect(job.summary).toContain('### A deployment would be refused');
    expect(job.summary).toContain(`https://github.com/org/homelab/pull/${unlabelled.number}`);
    expect(codeOf(await world.deploy(readme, 'planned'))).toBe('label-missing');
  });

  it('of an open pull request names what waits on the default branch, not the pull request itself', async () => {
    const open = world.merge({ 'stacks/planned/note': 'open' }, () => [], { merged: false });
    world.github.tip = open.before;
    const pull = world.github.pulls.get(open.number) as Pull;
    const payload = pullRequestEvent('org/homelab', pull, { action: 'synchronize' });
    const job = await plan(open, { event: 'pull_request', payload });
    world.github.tip = undefined;
    world.github.commits.delete(open.sha);
    world.repository.git('reset', '--quiet', '--hard', open.before);
    const codes = resultOf(job).waiting.map(({ code }: { code: string }) => code);
    expect({ code: codeOf(job), codes }, job.log).toEqual({
      code: 'planned',
      codes: ['label-missing'],
    });
  });

  it('of a commit that was pushed directly links to it, and is not refused', async () => {
    const before = world.repository.head();
    const direct = world.repository.commit('direct', { 'stacks/planned/direct': 'x' });
    world.github.commit(direct, [before]);
    const job = await plan(
      { before, sha: direct, number: 0 },
      { ...FAST_CLOCK, inputs: { ...FAST_CLOCK.inputs, mode: 'plan' } },
    );
    expect({ code: codeOf(job), waiting: resultOf(job).waiting }, job.log).toEqual({
      code: 'planned',
      waiting: [
        expect.objectContaining({ code: 'label-missing' }),
        {
          code: 'no-pull-request',
          commit: direct,
          message: `The commit ${direct.slice(0, 8)} does not belong to a merged pull request. https://github.com/org/homelab/commit/${direct}`,
          remedy: expect.any(String),
        },
      ],
    });
  });
});
