import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAST_CLOCK } from './doubles/fast-clock.ts';
import type { Scripted } from './doubles/github.ts';
import { labeled, merged, type Pull, pullRequestEvent, pushEvent } from './doubles/github-events.ts';
import { freePort } from './stand/host.ts';
import type { Finished, Job } from './stand/runner.ts';
import { codeOf, rolloutOf, Staging } from './stand/staging.ts';
import { LABEL, type Merge, type World } from './stand/world.ts';

let staging: Staging;
let world: World;
beforeAll(async () => {
  staging = new Staging();
  ({ world } = staging);
  await world.start();
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
  world.github.lag = 0;
});

/** `words`: a part of the log. */
type Case = [title: string, code: string, run: () => Promise<Finished>, words?: string];
const expectCode = async (code: string, run: Case[2], words = '') => {
  const job = await run();
  expect({ code: codeOf(job), isExplained: job.log.includes(words) }, job.log).toEqual({ code, isExplained: true });
  // A person finds the code, a remedy and a summary, never a stack or the bundle.
  if (code !== 'admitted')
    expect({
      isShort: job.log.length < 5000,
      isNamed: job.log.includes(`::error title=refused%3A ${code}::`),
      hasRemedy: job.outputs.result?.includes('"remedy":"'),
      hasSummary: job.summary.includes('### ✗ refused'),
    }).toEqual({ isShort: true, isNamed: true, hasRemedy: true, hasSummary: true });
};
/** Stages refusals at the same time. A run counts for other stacks of its repository while it executes, so those take turns. */
const stageAll = (cases: Case[]) => {
  it.each<Case>(cases.filter(([, code]) => code === 'admitted'))('%s gets %s', (_, ...expected) =>
    expectCode(...expected),
  );
  it.concurrent.each<Case>(cases.filter(([, code]) => code !== 'admitted'))('%s gets %s', (_, ...expected) =>
    expectCode(...expected),
  );
};
const fast = (): Partial<Job> => FAST_CLOCK;
const pullOf = ({ number }: Merge) => world.github.pulls.get(number) as Pull;
const push = (merge: Merge, changes: object) => pushEvent('org/homelab', merge.before, merge.sha, changes);

describe('an event (E)', () => {
  const fork: Partial<Pull> = { from: 'stranger/homelab' };
  const pullRequest = (action: string, pull: Partial<Pull> = {}) =>
    staging.run({
      pull,
      job: merge => ({ event: 'pull_request', payload: pullRequestEvent('org/homelab', pullOf(merge), { action }) }),
    });
  const event = (name: string) => staging.run({ job: () => ({ event: name, payload: {} }) });
  const pushWith = (changes: (merge: Merge) => object) =>
    staging.run({ job: merge => ({ payload: push(merge, changes(merge)) }) });
  /** Adds a commit with this message that no pull request brought, after the merge if there is one. */
  const direct = (message: string, merge?: (name: string) => Merge) => {
    const name = staging.name();
    const before = world.repository.head();
    merge?.(name);
    const parent = world.repository.head();
    const sha = world.repository.commit(message, { [`chatops/intents/${name}.yaml`]: rolloutOf(name, '# direct\n') });
    world.github.commit(sha, [parent], message);
    return world.deploy({ before, sha, number: 0 }, name, fast());
  };
  const earlier = () => Math.max(1, ...world.github.pulls.keys());
  const forced = (name: 'diverged' | 'behind') =>
    staging.run({
      job: merge => {
        const other = merge.sha.replace(/^../, 'ee');
        world.github.commit(other, name === 'behind' ? [merge.sha] : [merge.before]);
        world.github.tip = merge.sha;
        return { payload: pushEvent('org/homelab', other, merge.sha) };
      },
    });

  it.each<Case>([
    ['E23 a forced push that does not say so', 'forced-push', () => forced('diverged')],
    ['E24 a forced push back', 'forced-push', () => forced('behind')],
    [
      'E34 a merge that GitHub’s index does not know for some seconds',
      'admitted',
      () => {
        world.github.lag = 3;
        return staging.run({ job: fast });
      },
    ],
  ])('%s gets %s', async (_, code, run) => {
    await expectCode(code, run);
    world.github.tip = undefined;
  });

  stageAll([
    ['E1 the push of a fork’s merge', 'admitted', () => staging.run({ pull: fork })],
    ['E2 a fork’s merge by pull_request', 'fork-pull-request', () => pullRequest('closed', fork)],
    ['E3 an open pull request of a fork', 'fork-pull-request', () => pullRequest('opened', { ...fork, merged: false })],
    ['E4 an opened pull request', 'not-merged', () => pullRequest('opened', { merged: false })],
    ['E5 a labelled pull request', 'not-merged', () => pullRequest('labeled', { merged: false })],
    ['E6 a pull request with another push', 'not-merged', () => pullRequest('synchronize', { merged: false })],
    ['E7 one that was closed without a merge', 'not-merged', () => pullRequest('closed', { merged: false })],
    [
      'E8 one that was merged into another branch',
      'not-default-branch',
      () => pullRequest('closed', { base: 'develop' }),
    ],
    ['E9 pull_request_target', 'trigger-pull-request-target', () => event('pull_request_target')],
    ['E10 issue_comment', 'trigger-unsupported', () => event('issue_comment')],
    ['E11 merge_group', 'merge-group-validate-only', () => event('merge_group')],
    ['E12 repository_dispatch', 'trigger-unsupported', () => event('repository_dispatch')],
    ['E13 workflow_run', 'trigger-unsupported', () => event('workflow_run')],
    ['E14 release', 'trigger-unsupported', () => event('release')],
    [
      'E15 schedule, without a rule for it',
      'approval-missing',
      () => staging.run({ job: () => ({ event: 'schedule', payload: { schedule: '0 4 * * *' } }) }),
    ],
    ['E18 a push to another branch', 'not-default-branch', () => pushWith(() => ({ ref: 'refs/heads/feature' }))],
    [
      'E19 a push to a branch whose name ends the same',
      'not-default-branch',
      () => pushWith(() => ({ ref: 'refs/heads/x/main' })),
    ],
    ['E20 a tag', 'not-default-branch', () => pushWith(() => ({ ref: 'refs/tags/main' }))],
    [
      'E21 the first push of a branch',
      'branch-created',
      () => pushWith(() => ({ created: true, before: '0'.repeat(40) })),
    ],
    ['E22 a forced push', 'forced-push', () => pushWith(() => ({ forced: true }))],
    [
      'E25 a push whose earlier commit is gone',
      'github-unreadable',
      () => staging.run({ job: merge => ({ payload: pushEvent('org/homelab', 'c'.repeat(40), merge.sha) }) }),
    ],
    ['E26 a direct push', 'no-pull-request', () => direct('a change')],
    ['E27 a direct push that names a pull request', 'no-pull-request', () => direct(`a change (#${earlier()})`)],
    [
      'E28 a direct push with the words of a merge',
      'no-pull-request',
      () => direct(`Merge pull request #${earlier()} from org/change`),
    ],
    ['E29 a direct push after a merge', 'no-pull-request', () => direct('a change', name => staging.merge(name))],
    [
      'E30 a merge into another branch, pushed directly',
      'no-pull-request',
      () => staging.run({ pull: { base: 'develop' }, job: fast }),
    ],
    [
      'E31 a labelled revert',
      'admitted',
      () => {
        const name = staging.name();
        staging.merge(name, { timeline: () => [merged()] });
        return world.deploy(staging.merge(name), name);
      },
    ],
    ['E32 a revert without a label', 'label-missing', () => staging.run({ timeline: () => [merged()] })],
  ]);
});

describe('GitHub (F)', () => {
  let tokens = 0;
  const failing =
    (failure: Scripted, { inputs, ...job }: Partial<Job> = fast()) =>
    () => {
      const token = inputs?.['github-token'] ?? `ghs_${++tokens}`;
      world.github.failures.push({ ...failure, token: token || 'none' });
      return staging.run({ job: () => ({ ...job, inputs: { ...inputs, 'github-token': token } }) });
    };
  const all = (path: string, status: number, more: Partial<Scripted> = {}) =>
    failing({ path, status, always: true, ...more });
  const paths = ['/compare/', '/pulls', '/timeline', '/reviews', '/permission'];
  const nonsense: [path: string, raw: string][] = [
    ['/pulls', '<html>'],
    ['/pulls', '[{"number":1'],
    ['/pulls', '{}'],
    ['/pulls', 'null'],
    ['/timeline', '{}'],
    ['/timeline', '[{}]'],
    ['/reviews', '<html>'],
    ['/reviews', '[{"state":1}]'],
    ['/permission', '"words"'],
    ['/permission', '{}'],
  ];
  const forbidden = 'Resource not accessible by integration';
  const limit = { message: 'You have exceeded a secondary rate limit' };
  const hour = { headers: { 'retry-after': '3600' } };

  stageAll([
    ['F1 answers 502 once', 'admitted', failing({ path: '/timeline', status: 502 })],
    ['F1 answers 502', 'github-unreadable', all('/timeline', 502), 'GitHub answered 502'],
    ['F2 answers 503', 'github-unreadable', all('/compare/', 503), 'GitHub answered 503'],
    ['F3 answers 429 once', 'admitted', failing({ path: '/timeline', status: 429, headers: { 'retry-after': '1' } })],
    [
      'F5 answers with its secondary limit',
      'github-unreadable',
      all('/timeline', 403, limit),
      'secondary rate limit is reached',
    ],
    ['F6 answers 429 for an hour', 'github-unreadable', all('/timeline', 429, hour), 'again in 60 minutes.'],
    ...nonsense.map(
      ([path, raw]): Case => [
        `F9 answers ${path} with ${raw}`,
        'github-unreadable',
        failing({ path, raw, always: true }),
      ],
    ),
    [
      'F13 does not answer',
      'github-unreadable',
      failing({ path: '/timeline', hang: 'silent', always: true }),
      'no answer within 20 s',
    ],
    [
      'F14 answers a byte at a time',
      'github-unreadable',
      failing({ path: '/timeline', hang: 'drip', always: true }),
      'no answer within 20 s',
    ],
    [
      'F15 is an enterprise server',
      'admitted',
      () => staging.run({ job: () => ({ apiUrl: `${world.github.url}/api/v3` }) }),
    ],
    [
      'F17 gets no token',
      'github-unreadable',
      failing({ path: '', status: 401, always: true }, { inputs: { 'github-token': '' } }),
      'github-token',
    ],
    ['F18 gets a wrong token', 'github-unreadable', all('', 401), 'the token is not valid'],
    ...paths.map(
      (path, index): Case => [
        `F${19 + index} denies ${path}`,
        'github-unreadable',
        all(path, 403, { message: forbidden }),
        forbidden,
      ],
    ),
    ['F24 does not show the repository', 'github-unreadable', all('', 404), 'the token does not see'],
    [
      'F25 is not reached',
      'github-unreadable',
      async () => {
        const apiUrl = `http://127.0.0.1:${await freePort()}`;
        return staging.run({ job: () => ({ ...fast(), apiUrl }) });
      },
      'Check that the runner reaches GitHub',
    ],
  ]);

  it('F26 has the repository under another name: admitted', async () => {
    const job = await staging.run({
      job: merge => {
        const path = `/issues/${merge.number}/timeline`;
        const location = `${world.github.url}/repos/org/homelab${path}?per_page=100`;
        world.github.failures.push({ path, status: 301, headers: { location } });
        return {};
      },
    });
    expect(codeOf(job), job.log).toBe('admitted');
  });
});

describe('the checkout (G)', () => {
  const clone = (...args: string[]) => {
    const dir = join(mkdtempSync(join(world.dir, 'clone-')), 'work');
    execFileSync('git', ['clone', '--quiet', ...args, `file://${world.repository.dir}`, dir]);
    return dir;
  };
  /** Merges a stack whose folder has more than plain files. */
  const shipping = (setUp: (folder: string, path: string) => void) => () => {
    const name = staging.name();
    const folder = join(world.repository.dir, 'stacks', name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'a.conf'), 'x\n');
    setUp(folder, `stacks/${name}`);
    return world.deploy(staging.merge(name, { intent: `source_dir: stacks/${name}\n` }), name);
  };
  const submodule = (folder: string, path: string) => {
    mkdirSync(join(folder, 'sub'));
    world.repository.git('update-index', '--add', '--cacheinfo', `160000,${world.repository.head()},${path}/sub`);
  };
  const lfs = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n';
  const changed = (dir: string, name: string) => {
    writeFileSync(join(dir, 'chatops/intents', `${name}.yaml`), 'action: [\n');
    return { workspace: dir };
  };
  stageAll([
    ['G1 of one commit', 'admitted', () => staging.run({ job: () => ({ workspace: clone('--depth', '1') }) })],
    [
      'G2 of an earlier commit alone',
      'commit-not-checked-out',
      () => {
        const workspace = clone('--depth', '1');
        return staging.run({ job: () => ({ workspace }) });
      },
    ],
    [
      'G3 that is missing',
      'commit-not-checked-out',
      () => staging.run({ job: () => ({ workspace: mkdtempSync(join(world.dir, 'empty-')) }) }),
    ],
    [
      'G5 with an intent that a step changed',
      'admitted',
      () => staging.run({ job: (_, name) => changed(clone(), name) }),
    ],
    ['G7 with a submodule in the source folder', 'file-not-allowed', shipping(submodule)],
    [
      'G8 with a pointer of Git LFS',
      'file-not-allowed',
      shipping(folder => writeFileSync(join(folder, 'film.mkv'), lfs)),
    ],
    ['G9 with a link', 'file-not-allowed', shipping(folder => symlinkSync('/etc/passwd', join(folder, 'link')))],
    ['G14 with lines that end in CRLF', 'admitted', () => staging.run({ intent: '# more\r\ntimeout: 30s\r\n' })],
    [
      'G17 without the payload of the event',
      'event-unreadable',
      () => staging.run({ job: () => ({ env: { GITHUB_EVENT_PATH: '/nowhere/event.json' } }) }),
    ],
  ]);
});

describe('a refusal (H)', () => {
  it('H1 to H7 names the pull request with its page, the label, and a remedy that can be followed after the merge', async () => {
    const job = await staging.run({ timeline: () => [labeled('bug'), merged()] });
    const { number } = { number: Math.max(...world.github.pulls.keys()) };
    const message = `Pull request #${number} did not have the label "${LABEL}" when it was merged. https://github.com/org/homelab/pull/${number}`;
    const remedy =
      'Nothing was deployed. Revert the pull request by a labelled one, then merge the change again with its approval.';
    expect(JSON.parse(job.outputs.result ?? '')).toMatchObject({
      status: 'refused',
      reason: 'label-missing',
      message,
      remedy,
    });
    expect(job.log.split('\n').filter(line => line.startsWith('::error'))).toEqual([
      `::error title=refused%3A label-missing::${message} ${remedy}`,
    ]);
    expect(job.summary).toContain(`https://github.com/org/homelab/pull/${number}`);
  });
});
