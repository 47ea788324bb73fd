import { describe, expect, it } from 'vitest';
import { Refused } from '../protocol/refusal.ts';
import { GitHubDouble } from '../test/doubles/github.ts';
import { pullRequestEvent, pushEvent } from '../test/doubles/github-events.ts';
import type { Inputs } from './inputs.ts';
import { readTrigger } from './trigger.ts';

const REPOSITORY = 'org/homelab';
const A = 'aa'.repeat(20);
const B = 'bb'.repeat(20);
const hub = new GitHubDouble(REPOSITORY);
const pull = (changes: object) => hub.pull({ number: 5, mergeSha: B, ...changes });
const read = (event: string, payload: unknown, mode: Inputs['mode'] = 'run') =>
  readTrigger(
    { GITHUB_EVENT_NAME: event, GITHUB_REPOSITORY: REPOSITORY, GITHUB_SHA: A, GITHUB_REF: 'refs/heads/main' },
    payload,
    mode,
  );
function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
  return 'admitted';
}

describe('the trigger', () => {
  it('is a push to the default branch, at the pushed commit', () => {
    expect(read('push', pushEvent(REPOSITORY, A, B))).toMatchObject({
      kind: 'push',
      before: A,
      sha: B,
      branch: 'main',
      origin: { repository: REPOSITORY, sha: B },
    });
  });

  it('is a merged pull request at its merge commit, or an open one at the checked out commit', () => {
    expect(read('pull_request', pullRequestEvent(REPOSITORY, pull({})))).toMatchObject({
      kind: 'merged-pull-request',
      number: 5,
      sha: B,
    });
    const open = pullRequestEvent(REPOSITORY, pull({ merged: false }), { action: 'synchronize' });
    expect(read('pull_request', open, 'plan')).toMatchObject({ kind: 'open-pull-request', number: 5, sha: A });
  });

  it.each<[string, string, unknown, string]>([
    ['a forced push', 'push', pushEvent(REPOSITORY, A, B, { forced: true }), 'forced-push'],
    ['a new branch', 'push', pushEvent(REPOSITORY, '0'.repeat(40), B), 'branch-created'],
    ['a deleted branch', 'push', pushEvent(REPOSITORY, A, '0'.repeat(40), { deleted: true }), 'branch-created'],
    ['another branch', 'push', pushEvent(REPOSITORY, A, B, { ref: 'refs/heads/feature' }), 'not-default-branch'],
    ['a tag', 'push', pushEvent(REPOSITORY, A, B, { ref: 'refs/tags/v1' }), 'not-default-branch'],
    [
      'an open pull request',
      'pull_request',
      pullRequestEvent(REPOSITORY, pull({ merged: false }), { action: 'opened' }),
      'not-merged',
    ],
    [
      'a pull request that was closed without a merge',
      'pull_request',
      pullRequestEvent(REPOSITORY, pull({ merged: false })),
      'not-merged',
    ],
    [
      'a pull request merged into another branch',
      'pull_request',
      pullRequestEvent(REPOSITORY, pull({ base: 'develop' })),
      'not-default-branch',
    ],
    [
      'a pull request from a fork',
      'pull_request',
      pullRequestEvent(REPOSITORY, pull({ from: 'stranger/homelab' })),
      'fork-pull-request',
    ],
    ['pull_request_target', 'pull_request_target', {}, 'trigger-pull-request-target'],
    ['a test run of a merge queue', 'merge_group', {}, 'merge-group-validate-only'],
    ['any other event', 'issue_comment', {}, 'trigger-unsupported'],
    ['an event without a payload', 'push', null, 'not-default-branch'],
  ])('is refused if it is %s', (_, event, payload, code) => {
    expect(codeOf(() => read(event, payload))).toBe(code);
  });

  it('is a dispatch or a schedule of the default branch; a plan may look at another one', () => {
    const at = (
      event: string,
      ref: string,
      mode: Inputs['mode'] = 'run',
      payload: object = pushEvent(REPOSITORY, A, B),
    ) =>
      codeOf(() =>
        readTrigger(
          { GITHUB_EVENT_NAME: event, GITHUB_REPOSITORY: REPOSITORY, GITHUB_SHA: A, GITHUB_REF: ref },
          payload,
          mode,
        ),
      );
    expect(at('workflow_dispatch', 'refs/heads/main')).toBe('admitted');
    expect(at('schedule', 'refs/heads/trunk', 'run', { schedule: '0 4 * * *' })).toBe('admitted');
    expect(at('workflow_dispatch', 'refs/heads/feature', 'plan')).toBe('admitted');
    for (const ref of ['refs/heads/feature', 'refs/tags/main', ''])
      expect(at('workflow_dispatch', ref)).toBe('not-default-branch');
    expect(at('schedule', 'refs/heads/trunk')).toBe('not-default-branch');
  });

  it('is refused in every mode if it is a pull request from a fork', () => {
    const fork = pullRequestEvent(REPOSITORY, pull({ from: 'stranger/homelab', merged: false }), { action: 'opened' });
    for (const mode of ['run', 'plan', 'dry-run'] as const)
      expect(codeOf(() => read('pull_request', fork, mode))).toBe('fork-pull-request');
  });
});
