import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  baseChangedByGitHub,
  committed,
  type Entry,
  forcePushed,
  labeled,
  merged,
  type Pull,
  pullRequestEvent,
  pushEvent,
  pushed,
  unlabeled,
} from './doubles/github-events.ts';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import { type Finished, type Job, runJob } from './stand/runner.ts';
import { codeOf, rolloutOf, type Staged, Staging } from './stand/staging.ts';
import { LABEL, type Merge, type World, webStack } from './stand/world.ts';

const BEFORE = '2026-11-20T10:30:00Z';
const LATER = '2026-11-20T13:00:00Z';

let staging: Staging;
let world: World;
beforeAll(async () => {
  staging = new Staging();
  ({ world } = staging);
  await world.github.start();
  await world.host.start(policy({ allowOlder: false }));
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
  world.github.failures.length = 0;
  world.github.pageSize = 100;
  world.github.tip = undefined;
});

const policy = ({ allowOlder }: { allowOlder: boolean }) => ({
  trust: [
    {
      name: 'homelab',
      key: world.host.keys.public,
      repository: 'org/homelab',
      allow: [
        { actions: ['rollout'], stacks: ['reviewed'], min_approvals: 1 },
        { actions: ['rollout'], stacks: ['nightly'], without_approval: ['workflow_dispatch', 'schedule'] },
        { actions: ['rollout'], stacks: ['staged*', 'web'], require_labels: [LABEL] },
        {
          ...{ name: 'rewrites', actions: ['rollout'], stacks: ['rewritten'], require_labels: [LABEL] },
          allow_older: allowOlder,
        },
      ],
    },
  ],
});

const stage = (
  timeline?: (head: string) => Entry[],
  pull: Partial<Pull> = {},
  job: NonNullable<Staged['job']> = () => ({}),
): Promise<Finished> => staging.run({ ...(timeline ? { timeline } : {}), pull, job });
const review = (head: string, at?: string) => ({
  ...{ state: 'APPROVED', user: { login: 'octocat' }, commit_id: head },
  ...(at === undefined ? {} : { submitted_at: at }),
});

describe('a staged pull request', () => {
  const early = [labeled(LABEL, 'octocat', BEFORE), merged()];
  const dated = (date: string) => (head: string) => [...early, committed(head, date)];
  const page = Array.from({ length: 5 }, () => labeled('size/S'));
  const gone: Partial<Pull> = { from: null };
  const fork: Partial<Pull> = { from: 'stranger/homelab' };
  const bySetter = (login: string | null) => () => [labeled(LABEL, login), merged()];

  it.each<[string, string, () => Promise<Finished>]>([
    ['A1 labelled after its last push', 'admitted', () => stage()],
    ['A2 pushed after the label', 'label-early', () => stage(head => [labeled(LABEL), committed(head), merged()])],
    ['A3 pushed after the label, and dated before it', 'label-early', () => stage(dated('2026-11-20T10:00:00Z'))],
    ['A6 pushed after the label, and dated in the future', 'label-early', () => stage(dated('2030-01-01T00:00:00Z'))],
    ['A7 the same by the author of a fork', 'label-early', () => stage(dated('2026-11-20T10:00:00Z'), fork)],
    ['A8 force-pushed after the label', 'label-early', () => stage(() => [labeled(LABEL), forcePushed(), merged()])],
    ['A16 from a fork that is gone', 'label-unproven', () => stage(undefined, gone)],
    ['D1 whose label was removed', 'label-missing', () => stage(() => [labeled(LABEL), unlabeled(LABEL), merged()])],
    ['D4 labelled by a stranger', 'label-by-unauthorized', () => stage(bySetter('stranger'))],
    ['D7 labelled by an account that is gone', 'label-by-unauthorized', () => stage(bySetter(null))],
    ['D14 labelled after the merge', 'label-missing', () => stage(() => [merged(), labeled(LABEL)])],
    [
      'D29 whose base GitHub changed',
      'label-early',
      () => stage(() => [labeled(LABEL), baseChangedByGitHub(), merged()]),
    ],
    [
      'D2 with its label on a short page',
      'admitted',
      () => {
        world.github.pageSize = 3;
        return stage(() => [...page, labeled(LABEL), merged()]);
      },
    ],
    [
      'D12 with another label by a user whom GitHub does not show',
      'admitted',
      () => {
        world.github.failures.push({ path: '/collaborators/ghost', status: 403, always: true });
        return stage(() => [labeled('size/S', 'ghost'), labeled(LABEL), merged()]);
      },
    ],
  ])('%s gets %s', async (_, code, run) => {
    const job = await run();
    expect(codeOf(job), job.log).toBe(code);
  });

  it('A7 by the event pull_request gets the same code, and A13 a review after the merge does not count', async () => {
    const byEvent = await stage(dated('2026-11-20T10:00:00Z'), {}, merge => {
      const pull = world.github.pulls.get(merge.number) as Pull;
      return { event: 'pull_request', payload: pullRequestEvent('org/homelab', pull) };
    });
    expect(codeOf(byEvent), byEvent.log).toBe('label-early');
    world.stack('reviewed');
    const reviewed = (at?: string) => {
      const merge = world.merge({ 'chatops/intents/reviewed.yaml': 'action: rollout\nstack: reviewed\n' });
      const pull = world.github.pulls.get(merge.number) as Pull;
      pull.reviews.push(review(pull.headSha, at));
      return world.deploy(merge, 'reviewed');
    };
    expect(codeOf(await reviewed(LATER))).toBe('approvals-missing');
    expect(codeOf(await reviewed())).toBe('admitted');
  });

  it('is refused in words that name the page, the setter, the times and a remedy', async () => {
    const job = await stage(dated('2026-11-20T10:00:00Z'));
    const { message, remedy } = JSON.parse(job.outputs.result ?? '');
    expect({ message, remedy }).toEqual({
      message: expect.stringMatching(
        /was set by octocat at 2026-11-20T10:30:00Z, but the commit f\w{7} was pushed at 2026-11-20T11:00:00Z\. https:\/\/github\.com\/org\/homelab\/pull\/\d+$/,
      ),
      remedy: expect.stringMatching(/^Nothing was deployed\. Revert the pull request by a labelled one/),
    });
    expect(job.summary).toContain('### ✗ refused: label');
  });
});

describe('a push of a merge queue', () => {
  it.each<[string, Record<string, string>, object, string]>([
    [
      'B9 an unlabelled change of the hosts file',
      { 'hosts.yaml': '{} # changed\n' },
      { inputs: { 'hosts-file': 'hosts.yaml' } },
      'label-missing',
    ],
    ['B12 an unlabelled change below a source_dir with a slash', { 'stacks/web/more': 'x' }, {}, 'label-missing'],
    ['an unlabelled change of another file', { 'README.md': 'x' }, {}, 'admitted'],
  ])('with %s gets its code', async (_, files, changes, code) => {
    const name = staging.name();
    world.merge({ 'hosts.yaml': '{}\n', [`stacks/web/${name}`]: 'x' });
    const before = world.repository.head();
    world.merge(files, () => [merged()]);
    const merge = world.merge({ [`chatops/intents/${name}.yaml`]: rolloutOf(name, 'source_dir: stacks/web/\n') });
    const job = await world.deploy({ ...merge, before }, name, changes);
    expect(codeOf(job), job.log).toBe(code);
  });
});

describe('a job of an event that can’t be read', () => {
  const PATH = { html: '<html>', cut: '[{"event"', empty: '{}', none: 'null' };
  it.each(Object.entries(PATH))('F7 ends with a code if GitHub answers %s', async (_, raw) => {
    world.github.failures.push({ path: '/compare/', raw, always: true });
    const job = await stage();
    expect({ code: codeOf(job), isShort: job.log.length < 5000, hasSummary: job.summary.includes('refused') }).toEqual({
      code: 'github-unreadable',
      isShort: true,
      hasSummary: true,
    });
  });

  it('F4 names a rate limit and its end', async () => {
    const headers = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1893456000' };
    world.github.failures.push({ path: '/timeline', status: 403, headers });
    const job = await stage();
    expect({ code: codeOf(job), names: job.log.includes('is used up until 2030-01-01T00:00:00.000Z') }).toEqual({
      code: 'github-unreadable',
      names: true,
    });
  });

  it('G16 ends with a code if the payload of the event is broken or the clone is partial', async () => {
    const merge = world.merge({ 'chatops/intents/web.yaml': rolloutOf('web') });
    const broken = await runJob({ ...world.job(merge, 'web'), env: { GITHUB_EVENT_PATH: world.dir } });
    expect({ code: codeOf(broken), isShort: broken.log.length < 5000 }).toEqual({
      code: 'event-unreadable',
      isShort: true,
    });
    const clone = join(world.dir, 'clone');
    world.repository.git('config', 'uploadpack.allowFilter', 'true');
    const source = `file://${world.repository.dir}`;
    execFileSync('git', ['clone', '--quiet', '--no-checkout', '--filter=blob:none', source, clone]);
    execFileSync('git', ['-C', clone, 'remote', 'set-url', 'origin', 'file:///nowhere']);
    const partial = await world.deploy(merge, 'web', { workspace: clone });
    expect(codeOf(partial), partial.log).toBe('checkout-unreadable');
  });
});

describe('a week of one stack', () => {
  it('deploys what was approved, in order, and says why the rest waits', { timeout: 600_000 }, async () => {
    const port = await freePort();
    world.stack('web');
    const compose = (version: string) => ({ 'stacks/web/compose.yaml': webStack(`chatops-test/web:${version}`, port) });
    const intent = (note: string) => ({
      'chatops/intents/web.yaml': `${rolloutOf('web', 'source_dir: stacks/web\n')}# ${note}\n`,
    });
    const served = () => readPage(port);
    const dispatch = (pull: Merge, more: Partial<Job> = {}): Partial<Job> => ({
      event: 'workflow_dispatch',
      payload: pushEvent('org/homelab', pull.before, pull.sha),
      inputs: { 'pull-request': String(pull.number) },
      ...more,
    });

    const unlabelled = () => [merged()];
    const monday = world.merge({ ...compose('1'), ...intent('one') });
    const first = await world.deploy(monday, 'web');
    expect({ code: codeOf(first), status: first.outputs.status, page: await served() }, first.log).toEqual({
      ...{ code: 'admitted', status: 'succeeded', page: '1' },
    });
    expect(first.log).toContain('The host has not deployed "web" yet.');
    expect(JSON.parse(first.outputs.result ?? '').receipts[0].documents[0].baseline).toBe(monday.sha);
    expect(first.summary).toContain(`the content at \`${monday.sha.slice(0, 8)}\` is the baseline`);

    // C1: an unlabelled change waits, and does not ride along with the next pull request.
    const waiting = world.merge(compose('2'), unlabelled);
    expect(codeOf(await world.deploy(waiting, 'web'))).toBe('label-missing');
    const readme = world.merge({ 'README.md': 'two\n' });
    const rides = await world.deploy(readme, 'web');
    expect({ code: codeOf(rides), names: rides.log.includes(`#${waiting.number} did not have the label`) }).toEqual({
      ...{ code: 'label-missing', names: true },
    });
    // C3: a dispatch of the old approval does not bring it either.
    expect(codeOf(await world.deploy(readme, 'web', dispatch(monday, { sha: readme.sha })))).toBe('label-missing');
    // The remedy: revert it by a labelled pull request, then merge it again.
    expect(codeOf(await world.deploy(world.merge(compose('1')), 'web'))).toBe('admitted');
    const again = world.merge(compose('2'));
    expect(codeOf(await world.deploy(again, 'web'))).toBe('admitted');
    expect(await served()).toBe('2');

    // C12, C13: an older job that runs again deploys nothing. C5: neither does a dispatch on a branch or a tag.
    expect(codeOf(await world.deploy(monday, 'web'))).toBe('older-than-deployed');
    expect(codeOf(await world.deploy(again, 'web', dispatch(again, { ref: 'refs/heads/feature' })))).toBe(
      'not-default-branch',
    );
    world.github.tip = monday.sha;
    expect(codeOf(await world.deploy(again, 'web', dispatch(again)))).toBe('not-default-branch');
    world.github.tip = undefined;
    // C4: a dispatch names a pull request that has nothing to do with the intent.
    expect(codeOf(await world.deploy(again, 'web', dispatch(readme)))).toBe('pull-request-unrelated');
    expect(codeOf(await world.deploy(again, 'web', dispatch(again)))).toBe('admitted');

    // C2: a direct push waits as well.
    const before = world.repository.head();
    const direct = world.repository.commit('direct', compose('3'));
    world.github.commit(direct, [before]);
    const after = await world.deploy(world.merge(intent('two')), 'web');
    expect({ code: codeOf(after), names: after.log.includes(direct.slice(0, 8)) }).toEqual({
      ...{ code: 'no-pull-request', names: true },
    });
    expect(await served()).toBe('2');
  });
});

describe('a forced push that removed the commit deployed last', () => {
  it('stops the deployments until a job with allow-older, by a rule that has it, deploys the new history', async () => {
    const port = await freePort();
    const files = (version: string) => ({
      'chatops/intents/rewritten.yaml': rolloutOf('rewritten', 'source_dir: stacks/rewritten\n'),
      'stacks/rewritten/compose.yaml': webStack(`chatops-test/web:${version}`, port),
    });
    world.stack('rewritten');
    const removed = world.merge(files('1'));
    const first = await world.deploy(removed, 'rewritten');
    expect(first.outputs.status, first.log).toBe('succeeded');
    world.repository.git('reset', '--quiet', '--hard', removed.before);
    world.github.commits.delete(removed.sha);

    for (const note of ['one', 'two']) {
      const job = await world.deploy(world.merge({ ...files('2'), 'stacks/rewritten/note': note }), 'rewritten');
      const { code, remedy } = { code: codeOf(job), remedy: JSON.parse(job.outputs.result ?? '').remedy };
      expect({ code, remedy }, job.log).toEqual({
        code: 'history-rewritten',
        remedy:
          'Nothing was deployed. Run one job with the input "allow-older: true"; the rule of agent.yaml that allows it needs "allow_older: true".',
      });
    }
    const merge = world.merge({ 'stacks/rewritten/note': 'three' });
    const older = () => world.deploy(merge, 'rewritten', { inputs: { 'allow-older': 'true' } });
    const withoutRule = await older();
    expect({
      code: codeOf(withoutRule),
      isNamed: withoutRule.log.includes('The rule rewrites does not allow'),
    }).toEqual({
      ...{ code: 'older-not-allowed', isNamed: true },
    });
    await world.host.stop();
    await world.host.start(policy({ allowOlder: true }));
    const again = await older();
    expect(again.outputs.status, again.log).toBe('succeeded');
    const next = await world.deploy(world.merge({ 'stacks/rewritten/note': 'four' }), 'rewritten');
    expect(next.outputs.status, next.log).toBe('succeeded');
  });
});

describe('a schedule without evidence', () => {
  it('deploys in order all the same', async () => {
    world.stack('nightly');
    const old = world.merge({ 'chatops/intents/nightly.yaml': 'action: rollout\nstack: nightly\n' });
    const schedule = { event: 'schedule', payload: { schedule: '0 4 * * *' } };
    expect(codeOf(await world.deploy(old, 'nightly', schedule))).toBe('admitted');
    expect(codeOf(await world.deploy(old, 'nightly', { ...schedule, ref: 'refs/heads/trunk' }))).not.toBe('admitted');
  });
});

describe('an open pull request', () => {
  it('learns from mode validate if it would be admitted, before it is too late', async () => {
    const merge = world.merge({ 'chatops/intents/web.yaml': rolloutOf('web', '# checked\n') }, () => [], {
      merged: false,
    });
    const pull = world.github.pulls.get(merge.number) as Pull;
    const payload = pullRequestEvent('org/homelab', pull, { action: 'synchronize' });
    const validate = () => world.deploy(merge, 'web', { event: 'pull_request', payload, inputs: { mode: 'validate' } });
    const without = await validate();
    expect({
      status: without.outputs.status,
      warns: without.log.includes('title=would be refused%3A label-missing'),
    }).toEqual({
      ...{ status: 'valid', warns: true },
    });
    pull.timeline.push(labeled(LABEL));
    const labelled = await validate();
    expect({ exit: labelled.code, says: labelled.log.includes('✓ the label') }, labelled.log).toEqual({
      ...{ exit: 0, says: true },
    });
    pull.pushes.push(pushed(pull.headSha, LATER));
    expect((await validate()).log).toContain('Review the last push, remove the label and set it again.');
  });
});
