import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { GitHubDouble } from '../../test/doubles/github.ts';
import {
  baseChanged,
  baseChangedByGitHub,
  committed,
  type Entry,
  forcePushed,
  labeled,
  merged,
  type Pull,
  pushed,
  unlabeled,
} from '../../test/doubles/github-events.ts';
import { checkLabel } from '../labels.ts';
import type { Refusal } from '../refusal.ts';
import { readEvidence } from './gather.ts';
import { GitHubReader, nextPageOf } from './reader.ts';

const LABEL = 'approved-by-gemini';
const MERGE = 'aa'.repeat(20);
const OTHER = 'bb'.repeat(20);
const HEAD = 'e'.repeat(40);
const LATER = '2026-11-20T13:00:00Z';
const push11 = pushed(HEAD);
const deleted = pushed('0'.repeat(40), LATER, 'branch_deletion');

const hub = new GitHubDouble('org/homelab');
const waits: number[] = [];
const said: string[] = [];
const github = new GitHubReader({
  repository: 'org/homelab',
  unreadable: (what, why) => new Error(`${what}: ${why}`),
  async get(path, what, absent = []) {
    const url = path.startsWith('http') ? path : hub.url + path;
    const response = await fetch(url);
    const { status } = response;
    if (status !== 200 && !absent.includes(status)) throw new Error(`${what}: ${status}`);
    return { status, body: await response.json(), next: nextPageOf(response.headers.get('link') ?? undefined, url) };
  },
});

beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => {
  hub.failures.length = 0;
  hub.activityLag = 0;
  hub.timelineLag = 0;
  hub.hidden.clear();
  hub.hidden.add('private/fork');
  hub.permissions.clear();
  hub.permissions.set('octocat', { permission: 'write', role_name: 'write' });
  waits.length = 0;
  said.length = 0;
});

/** Returns why the label of a pull request does not count, or undefined if it counts. */
async function judge(changes: Partial<Pull>): Promise<Refusal | undefined> {
  hub.pull({ number: 1, mergeSha: MERGE, headSha: HEAD, timeline: [labeled(LABEL), merged()], ...changes });
  const pull = await github.pullRequest(1);
  if (!pull) throw new Error('the double has no pull request');
  const wait = async (ms: number) => waits.push(ms);
  return checkLabel(await readEvidence(pull, github, { wanted: [LABEL], wait, say: line => said.push(line) }), LABEL);
}
const codeOf = async (changes: Partial<Pull>) => (await judge(changes))?.code ?? 'admitted';
const codeForTimeline = (timeline: Entry[]) => codeOf({ timeline });

/** The label is set half an hour before the push at 11:00 of a commit with another date. */
const setBefore = labeled(LABEL, 'octocat', '2026-11-20T10:30:00Z');
const backdated = [setBefore, committed(HEAD, '2026-11-20T10:00:00Z')];
const postdated = [setBefore, committed(HEAD, '2030-01-01T00:00:00Z')];

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
    ['set before the base changed', 'label-early', [committed(HEAD), labeled(LABEL), baseChanged(), merged()]],
    ['set before GitHub changed the base', 'label-early', [labeled(LABEL), baseChangedByGitHub(), merged()]],
    ['set before a push whose commit is older', 'label-early', [...backdated, merged()]],
    ['set before a push whose commit is of the future', 'label-early', [...postdated, merged()]],
    ['set five seconds after the push', 'label-early', [labeled(LABEL, 'octocat', '2026-11-20T11:00:05Z'), merged()]],
    ['set six seconds after the push', 'admitted', [labeled(LABEL, 'octocat', '2026-11-20T11:00:06Z'), merged()]],
    ['set by an account that is gone', 'label-by-unauthorized', [labeled(LABEL, null), merged()]],
  ])(
    'counts as it was at the merge, by the timeline and the time of the push: %s gives %s',
    async (_, code, timeline) => {
      expect(await codeForTimeline(timeline)).toBe(code);
    },
  );

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

  it('needs only the permission of the user who set it, not that of users who set other labels', async () => {
    hub.failures.push({ path: '/collaborators/alice', status: 403, always: true });
    expect(await codeForTimeline([labeled('size/S', 'alice'), labeled(LABEL), merged()])).toBe('admitted');
    await expect(codeForTimeline([labeled(LABEL, 'alice'), merged()])).rejects.toThrow('the permission of alice: 403');
  });

  it('that is refused names the page, who set it when, and the commit that came later', async () => {
    expect(await judge({ timeline: backdated })).toEqual({
      code: 'label-early',
      message:
        'On pull request #1 the label "approved-by-gemini" was set before the last push. It was set by octocat at 2026-11-20T10:30:00Z, but the commit eeeeeeee was pushed at 2026-11-20T11:00:00Z. https://github.com/org/homelab/pull/1',
      remedy:
        'Nothing was deployed. Revert the pull request by a labelled one, then merge the change again with its approval.',
    });
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

describe('a label whose push GitHub does not show', () => {
  const review = { state: 'APPROVED', user: { login: 'octocat' }, commit_id: HEAD };
  const between = pushed(OTHER, '2026-11-20T11:30:00Z');
  const lag = [1000, 2000, 4000, 8000];

  it.each<[string, Partial<Pull>, string, number[]]>([
    ['with the push in the activity', {}, 'admitted', []],
    ['with a branch that was deleted after the merge', { pushes: [push11, deleted] }, 'admitted', []],
    ['with a branch that was used again after the merge', { pushes: [push11, pushed(OTHER, LATER)] }, 'admitted', []],
    ['with another newest push', { pushes: [push11, between] }, 'label-unproven', lag],
    ['without activity', { pushes: [] }, 'label-unproven', lag],
    ['with a fork that was deleted', { from: null }, 'label-unproven', []],
    ['with a fork that is private', { from: 'private/fork' }, 'label-unproven', []],
    ['with a public fork', { from: 'stranger/homelab' }, 'admitted', []],
    ['with a review of the last commit', { from: null, reviews: [review] }, 'admitted', []],
    [
      'with a review of an older commit',
      { from: null, reviews: [{ ...review, commit_id: OTHER }] },
      'label-unproven',
      [],
    ],
    [
      'with a review after the merge',
      { from: null, reviews: [{ ...review, submitted_at: LATER }] },
      'label-unproven',
      [],
    ],
    [
      'with a review by a stranger',
      { from: null, reviews: [{ ...review, user: { login: 'stranger' } }] },
      'label-unproven',
      [],
    ],
    [
      'with a review by an account that is gone',
      { from: null, reviews: [{ ...review, user: null }] },
      'label-unproven',
      [],
    ],
  ])('%s gives %s', async (_, changes, code, expected) => {
    expect({ code: await codeOf(changes), waits }).toEqual({ code, waits: expected });
  });

  it('is read again for some seconds if the timeline or the activity lags, and each wait is logged', async () => {
    hub.activityLag = 2;
    hub.timelineLag = 2;
    const pushes = [pushed(OTHER, '2026-11-20T10:00:00Z'), push11];
    expect({ code: await codeOf({ pushes }), waits, said }).toEqual({
      code: 'admitted',
      waits: [1000, 2000],
      said: [1, 2].map(
        seconds => `GitHub does not show the last push of pull request #1 yet. Asking again in ${seconds} s.`,
      ),
    });
  });

  it('is refused if the timeline never lists the last commit', async () => {
    hub.timelineLag = 9;
    expect({ code: await codeOf({}), waits }).toEqual({ code: 'label-unproven', waits: lag });
  });
});
