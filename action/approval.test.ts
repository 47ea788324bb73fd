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
/** The code that the labels of one pull request with this timeline get. */
async function judge(timeline: Entry[]): Promise<string> {
  hub.commit(A, [ROOT]);
  hub.pull({ number: 1, mergeSha: A, headSha: HEAD, timeline });
  return codeOf(
    push(A).then(approval => checkLabels([{ action: 'rollout', stack: 's', label_required: LABEL }], approval)),
  );
}

describe('a push is traced to its merged pull request', () => {
  it('squashed', async () => {
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

  it('by a merge commit, whose branch’s own commits are not looked at', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.commit(M, [ROOT, B], 'Merge pull request #1 from org/change');
    hub.pull({ number: 1, mergeSha: M });
    expect((await push(M))?.pull_request).toBe(1);
    expect(hub.asked.filter(path => path === `/commits/${A}/pulls`)).toEqual([]);
  });

  it('rebased: only the last commit is the merge commit, the others belong to it', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: B, commits: [A, B] });
    expect((await push(B))?.pull_request).toBe(1);
  });

  it('several in one push by a merge queue: all that touch the intents count, each on its own', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.commit(C, [B]);
    hub.pull({ number: 1, mergeSha: A, files: ['stacks/web/compose.yaml'], timeline: [labeled(LABEL), merged()] });
    hub.pull({ number: 2, mergeSha: B, files: ['README.md'] });
    hub.pull({ number: 3, mergeSha: C, files: ['stacks/web/.gitignore'], timeline: [merged()] });
    const approval = await push(C, ROOT, ['chatops/intents/web.yaml', 'stacks/web/']);
    expect([approval?.pull_request, approval?.with?.map(other => other.pull_request)]).toEqual([1, [3]]);
    const judged = Promise.resolve().then(() =>
      checkLabels([{ action: 'rollout', stack: 's', label_required: LABEL }], approval),
    );
    expect(await codeOf(judged)).toBe('label-missing');
  });

  it('the newest one where none touches the intents', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A, files: ['a'] });
    hub.pull({ number: 2, mergeSha: B, files: ['b'] });
    const approval = await push(B);
    expect([approval?.pull_request, approval?.with]).toEqual([2, undefined]);
  });

  it('though GitHub’s index lags', async () => {
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A });
    hub.lag = 3;
    expect((await push(A))?.pull_request).toBe(1);
    expect(waits).toEqual([1000, 2000, 4000]);
  });

  it('by the number in its message where the index stays silent, if that pull request proves it', async () => {
    hub.commit(A, [ROOT], 'Add plex (#7)');
    hub.pull({ number: 7, mergeSha: A, commits: [] });
    expect((await push(A))?.pull_request).toBe(7);
  });

  it('over many pages', async () => {
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

describe('what has no pull request is refused', () => {
  it('a commit pushed directly', async () => {
    hub.commit(A, [ROOT]);
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });

  it('a direct commit beside a merged one', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: B, timeline: [labeled(LABEL), merged()] });
    expect(await codeOf(push(B))).toBe('no-pull-request');
  });

  it('a message that names another’s pull request', async () => {
    hub.commit(A, [ROOT], 'Add plex (#7)');
    hub.pull({ number: 7, mergeSha: B, commits: [B] });
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });

  it('one that was merged elsewhere, or not merged', async () => {
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A, base: 'develop' });
    expect(await codeOf(push(A))).toBe('no-pull-request');
    hub.pull({ number: 1, mergeSha: A, merged: false });
    expect(await codeOf(push(A))).toBe('no-pull-request');
  });
});

describe('labels are judged as they stood at the merge, in the timeline’s order', () => {
  it.each<[string, Entry[], string]>([
    ['set after the last push', [committed(HEAD), labeled(LABEL), merged()], 'admitted'],
    ['set before the last push', [labeled(LABEL), committed(HEAD), merged()], 'label-early'],
    ['set before a forced push', [committed(HEAD), labeled(LABEL), forcePushed(), merged()], 'label-early'],
    ['removed again', [committed(HEAD), labeled(LABEL), unlabeled(LABEL), merged()], 'label-missing'],
    [
      'set again after the push',
      [labeled(LABEL), committed(HEAD), unlabeled(LABEL), labeled(LABEL), merged()],
      'admitted',
    ],
    ['set after the merge', [committed(HEAD), merged(), labeled(LABEL)], 'label-missing'],
    ['removed after the merge', [committed(HEAD), labeled(LABEL), merged(), unlabeled(LABEL)], 'admitted'],
    ['another label', [committed(HEAD), labeled('bug'), merged()], 'label-missing'],
  ])('%s', async (_, timeline, code) => {
    expect(await judge(timeline)).toBe(code);
  });

  it.each([
    ['triage', 'label-by-unauthorized'],
    ['read', 'label-by-unauthorized'],
    ['a-custom-role', 'label-by-unauthorized'],
    ['maintain', 'admitted'],
    ['admin', 'admitted'],
  ])('set by somebody with the role %s: %s', async (role_name, code) => {
    hub.permissions.set('somebody', { permission: 'read', role_name });
    expect(await judge([committed(HEAD), labeled(LABEL, 'somebody'), merged()])).toBe(code);
  });

  it('set by an app, which is no collaborator; other labels may be', async () => {
    expect(await judge([committed(HEAD), labeled(LABEL, 'labeler[bot]'), merged()])).toBe('label-by-unauthorized');
    expect(await judge([committed(HEAD), labeled('size/S', 'labeler[bot]'), labeled(LABEL), merged()])).toBe(
      'admitted',
    );
  });
});

describe('what can’t be read refuses', () => {
  it.each(['/compare/', '/timeline', '/permission', '/pulls'])('%s forbidden', async path => {
    hub.commit(A, [ROOT]);
    hub.pull({ number: 1, mergeSha: A, timeline: [labeled(LABEL), merged()] });
    hub.failures.push({ path, status: 403 });
    expect(await codeOf(push(A))).toBe('github-unreadable');
  });

  it('but passing troubles are tried again, and a limit is waited for', async () => {
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

  it('history that does not lead back', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, []);
    expect(await codeOf(push(A, B))).toBe('forced-push');
  });
});

describe('other events', () => {
  const dispatch = (pullRequest: number | undefined, at = B) =>
    gatherApproval(readTrigger(env('workflow_dispatch', at), {}, 'run'), github(), {
      repository: REPOSITORY,
      paths: [],
      pullRequest,
      wait,
    });

  it('a merged pull request is its own evidence', async () => {
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

  it('a dispatch has none, or that of the pull request it names', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [A]);
    hub.pull({ number: 1, mergeSha: A });
    expect(await dispatch(undefined)).toBeNull();
    expect((await dispatch(1))?.pull_request).toBe(1);
  });

  it('a dispatch can’t name a pull request that is open, absent or on another branch’s history', async () => {
    hub.commit(A, [ROOT]);
    hub.commit(B, [ROOT]);
    hub.pull({ number: 1, mergeSha: A, merged: false });
    hub.pull({ number: 2, mergeSha: A });
    expect(await codeOf(dispatch(1))).toBe('not-merged');
    expect(await codeOf(dispatch(9))).toBe('not-merged');
    expect(await codeOf(dispatch(2))).toBe('pull-request-not-in-history');
  });
});
