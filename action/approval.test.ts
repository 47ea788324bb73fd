import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Refused } from '../protocol/refusal.ts';
import { GitHubDouble } from '../test/doubles/github.ts';
import { committed, labeled, merged, pullRequestEvent, pushEvent } from '../test/doubles/github-events.ts';
import { History } from '../test/doubles/history.ts';
import { HistoryPlayer } from '../test/doubles/history-player.ts';
import { recordWaits } from '../test/doubles/waits.ts';
import { gatherApproval } from './approval.ts';
import { createGitHub } from './github.ts';
import { readTrigger } from './trigger.ts';

const REPOSITORY = 'org/homelab';
const LABEL = 'approved-by-gemini';
const sha = (letter: string) => letter.repeat(40);
const [ROOT, A, B, C, M] = ['0a', 'aa', 'bb', 'cc', 'dd'].map(pair => pair.repeat(20)) as [
  string,
  string,
  string,
  string,
  string,
];
const HEAD = sha('e');

let hub: GitHubDouble;
const waits: number[] = [];
const said: string[] = [];
beforeAll(async () => {
  hub = new GitHubDouble(REPOSITORY);
  await hub.start();
});
afterAll(() => hub.stop());
afterEach(() => {
  vi.restoreAllMocks();
});
beforeEach(() => {
  hub.commits.clear();
  hub.pulls.clear();
  hub.failures.length = 0;
  hub.lag = 0;
  waits.length = 0;
  said.length = 0;
  hub.asked.length = 0;
  hub.permissions.clear();
  hub.permissions.set('octocat', { permission: 'write', role_name: 'write' });
  hub.commit(ROOT, []);
});

const wait = async (ms: number) => waits.push(ms);
const github = () => createGitHub({ token: 'token', repository: REPOSITORY, baseUrl: hub.url });
const gathering = {
  paths: [] as string[],
  shared: [] as string[],
  wanted: [] as string[],
  pullRequest: undefined,
  deploys: true,
  deployed: async () => [],
  say: () => undefined,
};
const env = (event: string, at: string) => ({
  GITHUB_EVENT_NAME: event,
  GITHUB_REPOSITORY: REPOSITORY,
  GITHUB_REF: 'refs/heads/main',
  GITHUB_SHA: at,
});
async function push(after: string, before = ROOT, paths = ['chatops/intents/web.yaml'], wanted: string[] = []) {
  const trigger = readTrigger(env('push', after), pushEvent(REPOSITORY, before, after), 'run');
  return (await gatherApproval(trigger, github(), { ...gathering, paths, wanted, wait })).approval;
}
async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
  return 'admitted';
}
describe('the pull request of a push', () => {
  it('is found for a squashed merge', async () => {
    hub.commit(A, [ROOT], 'Add plex (#1)');
    hub.pull({ number: 1, mergeSha: A, headSha: HEAD, timeline: [committed(HEAD), labeled(LABEL), merged()] });
    expect(await push(A)).toEqual({
      pull_request: 1,
      url: 'https://github.com/org/homelab/pull/1',
      head_sha: HEAD,
      merge_sha: A,
      merged_by: 'octocat',
      labels: [{ name: LABEL, by: 'octocat', permission: 'write', at: '2026-11-20T12:00:00Z', after_last_push: true }],
    });
  });

  it('is found for a merge commit, without asking about the commits of the merged branch', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.commit(M, [ROOT, B], 'Merge pull request #1 from org/change');
    hub.pull({ number: 1, mergeSha: M });
    expect((await push(M))?.pull_request).toBe(1);
    expect(hub.asked.filter(path => path === `/commits/${A}/pulls`)).toEqual([]);
  });

  it('is found for a rebase, of which only the last commit is the merge commit', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: B, commits: [A, B] });
    expect((await push(B))?.pull_request).toBe(1);
  });

  it('is each one that touches the intents if a merge queue pushes several, and each must have the label', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.commit(C, [B]);
    hub.pull({ number: 1, mergeSha: A, files: ['stacks/web/compose.yaml'], timeline: [labeled(LABEL), merged()] });
    hub.pull({ number: 2, mergeSha: B, files: ['README.md'] });
    hub.pull({ number: 3, mergeSha: C, files: ['stacks/web/.gitignore'], timeline: [merged()] });
    const approval = await push(C, ROOT, ['chatops/intents/web.yaml', 'stacks/web/']);
    expect({ first: approval?.pull_request, others: approval?.with?.map(other => other.pull_request) }).toEqual({
      first: 1,
      others: [3],
    });
    expect(await codeOf(push(C, ROOT, ['chatops/intents/web.yaml', 'stacks/web/'], [LABEL]))).toBe('label-missing');
  });

  it('is the newest one if no pull request touches the intents', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A, files: ['a'] });
    hub.pull({ number: 2, mergeSha: B, files: ['b'] });
    const approval = await push(B);
    expect({ first: approval?.pull_request, others: approval?.with }).toEqual({ first: 2, others: undefined });
  });

  it('is found after some seconds if GitHub’s index lags', async () => {
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A });
    hub.lag = 3;
    expect((await push(A))?.pull_request).toBe(1);
    expect(waits).toEqual([1000, 2000, 4000]);
  });

  it('is found by the number in the commit message if the index does not have it and the merge commit agrees', async () => {
    hub.commit(A, [ROOT], 'Add plex (#7)');
    hub.pull({ number: 7, mergeSha: A, commits: [] });
    expect((await push(A))?.pull_request).toBe(7);
  });

  it('is found with its timeline if GitHub answers in several pages', async () => {
    let last = ROOT;
    for (let n = 0; n < 130; n++) {
      const next = `f${n.toString(16).padStart(39, '0')}`;
      hub.commit(next, [last]);
      last = next;
    }
    hub.pull({
      number: 1,
      mergeSha: last,
      commits: [...hub.commits.keys()],
      timeline: [labeled(LABEL), ...Array.from({ length: 150 }, () => committed(HEAD)), merged()],
    });
    const approval = await push(last);
    expect(approval?.labels[0]?.after_last_push).toBe(false);
  });
});

describe('a push without a merged pull request', () => {
  it('is refused if a commit was pushed directly', async () => {
    hub.commit(A, [ROOT]);
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });

  it('is refused if a commit was pushed directly together with a merged one', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: B, timeline: [labeled(LABEL), merged()] });
    expect(await codeOf(push(B))).toBe('no-pull-request');
  });

  it('is refused if its message names the pull request of another commit', async () => {
    hub.commit(A, [ROOT], 'Add plex (#7)');
    hub.pull({ number: 7, mergeSha: B, commits: [B] });
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });

  it('is refused if its pull request was merged into another branch, or not merged', async () => {
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A, base: 'develop' });
    expect(await codeOf(push(A))).toBe('no-pull-request');
    hub.pull({ number: 1, mergeSha: A, merged: false });
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });
});

describe('the evidence for a push', () => {
  it.each(['/compare/', '/timeline', '/permission', '/pulls'])(
    'is refused as unreadable if GitHub forbids %s',
    async path => {
      hub.commit(A, [ROOT]);
      hub.pull({ number: 1, mergeSha: A, timeline: [labeled(LABEL), merged()] });
      hub.failures.push({ path, status: 403 });
      expect(await codeOf(push(A, ROOT, [], [LABEL]))).toBe('github-unreadable');
    },
  );

  it('is read after a server error and a rate limit that pass', async () => {
    recordWaits(waits);
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A });
    hub.failures.push(
      { path: '/timeline', status: 502 },
      { path: '/timeline', status: 429, headers: { 'retry-after': '7' } },
    );
    expect((await push(A))?.pull_request).toBe(1);
    expect(waits).toEqual([1000, 7000]);
  });

  it('is refused if the history does not contain the commit before the push', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, []);
    expect(await codeOf(push(A, B))).toBe('forced-push');
  });
});

describe('the files of a merge queue', () => {
  it.each<[string, string[], string[]]>([
    ['the hosts file', ['hosts.yaml'], ['hosts.yaml']],
    ['the last of 3,001 files', [...Array.from({ length: 3000 }, (_, n) => `a${n}`), 'up.yaml'], ['up.yaml']],
  ])('count if an unlabelled pull request changes %s', async (_, files, paths) => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A, files });
    hub.pull({ number: 2, mergeSha: B, files: paths, timeline: [labeled(LABEL), merged()] });
    const approval = await push(B, ROOT, paths);
    expect([approval?.pull_request, ...(approval?.with ?? []).map(one => one.pull_request)]).toEqual([1, 2]);
  });
});

describe('an event other than a push', () => {
  const dispatch = async (pullRequest: number | undefined, at = B) => {
    const trigger = readTrigger(env('workflow_dispatch', at), {}, 'run');
    const options = { ...gathering, paths: ['stacks/web/'], pullRequest, wait };
    return (await gatherApproval(trigger, github(), options)).approval;
  };

  it('has the merged pull request that it is about as evidence', async () => {
    hub.commit(A, [ROOT]);
    const pull = hub.pull({ number: 1, mergeSha: A, timeline: [labeled(LABEL), merged()] });
    const trigger = readTrigger(env('pull_request', A), pullRequestEvent(REPOSITORY, pull), 'run');
    expect((await gatherApproval(trigger, github(), gathering)).approval?.merge_sha).toBe(A);
  });

  it('has no evidence if it is a dispatch, unless the input names a pull request', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A, files: ['stacks/web/compose.yaml'] });
    expect(await dispatch(undefined)).toBeNull();
    expect((await dispatch(1))?.pull_request).toBe(1);
  });

  it('is refused if it is a dispatch whose pull request is open, absent or in the history of another branch', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [ROOT]);
    hub.pull({ number: 1, mergeSha: A, merged: false });
    hub.pull({ number: 2, mergeSha: A });
    expect(await codeOf(dispatch(1))).toBe('not-merged');
    expect(await codeOf(dispatch(9))).toBe('not-merged');
    expect(await codeOf(dispatch(2))).toBe('pull-request-not-in-history');
  });

  it('is refused if it is a dispatch of a commit that is not on the default branch, also without a pull request', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [ROOT]);
    hub.tip = A;
    expect(await codeOf(dispatch(undefined, B))).toBe('not-default-branch');
    hub.tip = undefined;
  });

  it('is refused if it is a dispatch whose pull request changes other files', async () => {
    hub.commit(B, [ROOT]);
    hub.pull({ number: 1, mergeSha: B, files: ['README.md'] });
    expect(await codeOf(dispatch(1))).toBe('pull-request-unrelated');
  });

  it('has the pull requests as evidence that were merged after the named one and change the paths', async () => {
    const files = ['stacks/web/compose.yaml'];
    hub.commit(A, [ROOT], 'one', files);
    hub.commit(C, [A], 'two', ['README.md']);
    hub.commit(B, [C], 'three', files);
    hub.pull({ number: 1, mergeSha: A, files });
    hub.pull({ number: 2, mergeSha: C, files: ['README.md'] });
    hub.pull({ number: 3, mergeSha: B, files });
    const approval = await dispatch(1);
    expect([approval?.pull_request, ...(approval?.with ?? []).map(one => one.pull_request)]).toEqual([1, 3]);
    hub.pulls.delete(3);
    expect(await codeOf(dispatch(1))).toBe('no-pull-request');
  });
});

/** CASES sets the number of histories. docs/security.md has the result of 100,000. */
const HISTORIES = Number(process.env.CASES ?? 2000);

describe('random histories', () => {
  it('never deploy what was not approved, and deploy nearly everything that was', { timeout: 3_600_000 }, async () => {
    const counts = { jobs: 0, admitted: 0, honest: 0, refused: 0 };
    const refusals = new Map<string, number>();
    const chance = fc.nat({ max: 2 ** 20 });
    const kinds = fc.oneof(
      { arbitrary: fc.constant('honest' as const), weight: 8 },
      { arbitrary: fc.constant('job' as const), weight: 8 },
      { arbitrary: fc.constantFrom('open', 'push', 'label', 'merge', 'label', 'merge'), weight: 16 },
      { arbitrary: fc.constantFrom('force', 'unlabel', 'base', 'review', 'queue', 'revert', 'direct'), weight: 7 },
      { arbitrary: fc.constantFrom('lag', 'lag', 'fork-gone', 'dispatch'), weight: 4 },
    );
    const happening = fc.record({ kind: kinds, a: chance, b: chance });
    await fc.assert(
      fc.asyncProperty(fc.array(happening, { minLength: 4, maxLength: 30 }), async happenings => {
        const history = new History();
        const player = new HistoryPlayer(history);
        for (const one of [{ kind: 'honest' as const, a: 0, b: 1 }, ...happenings]) {
          history.happen(one);
          const result = await player.play(one);
          if (!result) continue;
          counts.jobs++;
          if (result.code === 'admitted') counts.admitted++;
          if (result.isHonest) counts.honest++;
          if (result.isHonest && result.code !== 'admitted') {
            counts.refused++;
            refusals.set(result.code, (refusals.get(result.code) ?? 0) + 1);
          }
          if (result.code === 'admitted' && !result.mayRun) throw new Error(`wrongly admitted: ${result.why}`);
        }
      }),
      { numRuns: HISTORIES },
    );
    const share = (100 * counts.refused) / counts.honest;
    console.log(
      `histories=${HISTORIES} ${JSON.stringify(counts)} refused=${share.toFixed(2)} % ${JSON.stringify([...refusals])}`,
    );
    expect(share).toBeLessThan(1);
  });
});
