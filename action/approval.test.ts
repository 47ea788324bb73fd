import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Refused } from '../protocol/refusal.ts';
import {
  committed,
  type Entry,
  forcePushed,
  GitHubDouble,
  labeled,
  merged,
  pullRequestEvent,
  pushEvent,
  unlabeled,
} from '../test/doubles/github.ts';
import { recordWaits } from '../test/doubles/waits.ts';
import { checkLabels, gatherApproval } from './approval.ts';
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
  hub.asked.length = 0;
  hub.permissions.clear();
  hub.permissions.set('octocat', { permission: 'write', role_name: 'write' });
  hub.commit(ROOT, []);
});

const wait = async (ms: number) => waits.push(ms);
const github = () => createGitHub('token', REPOSITORY, hub.url);
const env = (event: string, at: string) => ({
  GITHUB_EVENT_NAME: event,
  GITHUB_REPOSITORY: REPOSITORY,
  GITHUB_REF: 'refs/heads/main',
  GITHUB_SHA: at,
});
function push(after: string, before = ROOT, paths = ['chatops/intents/web.yaml']) {
  const trigger = readTrigger(env('push', after), pushEvent(REPOSITORY, before, after), 'run');
  return gatherApproval(trigger, github(), {
    repository: REPOSITORY,
    paths,
    pullRequest: undefined,
    wait,
  });
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
/** Returns the code for one pull request with this timeline. */
async function codeForTimeline(timeline: Entry[]): Promise<string> {
  hub.commit(A, [ROOT]);
  hub.pull({ number: 1, mergeSha: A, headSha: HEAD, timeline });
  return codeOf(
    push(A).then(approval => checkLabels([{ action: 'rollout', stack: 's', label_required: LABEL }], approval)),
  );
}

describe('the pull request of a push', () => {
  it('is found for a squashed merge', async () => {
    hub.commit(A, [ROOT], 'Add plex (#1)');
    hub.pull({ number: 1, mergeSha: A, headSha: HEAD, timeline: [committed(HEAD), labeled(LABEL), merged()] });
    expect(await push(A)).toEqual({
      pull_request: 1,
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
    const checked = Promise.resolve().then(() =>
      checkLabels([{ action: 'rollout', stack: 's', label_required: LABEL }], approval),
    );
    expect(await codeOf(checked)).toBe('label-missing');
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

describe('a label', () => {
  it.each<[string, string, Entry[]]>([
    ['set after the last push', 'admitted', [committed(HEAD), labeled(LABEL), merged()]],
    ['set before the last push', 'label-early', [labeled(LABEL), committed(HEAD), merged()]],
    ['set before a forced push', 'label-early', [committed(HEAD), labeled(LABEL), forcePushed(), merged()]],
    ['removed again', 'label-missing', [committed(HEAD), labeled(LABEL), unlabeled(LABEL), merged()]],
    [
      'set again after the push',
      'admitted',
      [labeled(LABEL), committed(HEAD), unlabeled(LABEL), labeled(LABEL), merged()],
    ],
    ['set after the merge', 'label-missing', [committed(HEAD), merged(), labeled(LABEL)]],
    ['removed after the merge', 'admitted', [committed(HEAD), labeled(LABEL), merged(), unlabeled(LABEL)]],
    ['another label', 'label-missing', [committed(HEAD), labeled('bug'), merged()]],
  ])('counts as it was at the merge, in the order of the timeline: %s gives %s', async (_, code, timeline) => {
    expect(await codeForTimeline(timeline)).toBe(code);
  });

  it.each([
    ['triage', 'label-by-unauthorized'],
    ['read', 'label-by-unauthorized'],
    ['a-custom-role', 'label-by-unauthorized'],
    ['maintain', 'admitted'],
    ['admin', 'admitted'],
  ])('counts by the role of the account that set it: %s gives %s', async (role_name, code) => {
    hub.permissions.set('alice', { permission: 'read', role_name });
    expect(await codeForTimeline([committed(HEAD), labeled(LABEL, 'alice'), merged()])).toBe(code);
  });

  it('does not count if an app set it, which is not a collaborator; other labels may come from an app', async () => {
    expect(await codeForTimeline([committed(HEAD), labeled(LABEL, 'labeler[bot]'), merged()])).toBe(
      'label-by-unauthorized',
    );
    expect(await codeForTimeline([committed(HEAD), labeled('size/S', 'labeler[bot]'), labeled(LABEL), merged()])).toBe(
      'admitted',
    );
  });
});

describe('the evidence for a push', () => {
  it.each(['/compare/', '/timeline', '/permission', '/pulls'])(
    'is refused as unreadable if GitHub forbids %s',
    async path => {
      hub.commit(A, [ROOT]);
      hub.pull({ number: 1, mergeSha: A, timeline: [labeled(LABEL), merged()] });
      hub.failures.push({ path, status: 403 });
      expect(await codeOf(push(A))).toBe('github-unreadable');
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

describe('an event other than a push', () => {
  const dispatch = (pullRequest: number | undefined, at = B) =>
    gatherApproval(readTrigger(env('workflow_dispatch', at), {}, 'run'), github(), {
      repository: REPOSITORY,
      paths: [],
      pullRequest,
      wait,
    });

  it('has the merged pull request that it is about as evidence', async () => {
    hub.commit(A, [ROOT]);
    const pull = hub.pull({ number: 1, mergeSha: A, timeline: [labeled(LABEL), merged()] });
    const trigger = readTrigger(env('pull_request', A), pullRequestEvent(REPOSITORY, pull), 'run');
    expect(
      (
        await gatherApproval(trigger, github(), {
          repository: REPOSITORY,
          paths: [],
          pullRequest: undefined,
        })
      )?.merge_sha,
    ).toBe(A);
  });

  it('has no evidence if it is a dispatch, unless the input names a pull request', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A });
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
});
