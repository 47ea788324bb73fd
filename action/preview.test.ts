import { afterAll, beforeAll, expect, it } from 'vitest';
import { GitHubDouble } from '../test/doubles/github.ts';
import { committed, labeled, type Pull, pushed } from '../test/doubles/github-events.ts';
import { createGitHub } from './github.ts';
import { previewApproval } from './preview.ts';
import { summaryOfPreview } from './summary.ts';

const LABEL = 'approved';
const HEAD = 'e'.repeat(40);
const hub = new GitHubDouble('org/homelab');
beforeAll(() => hub.start());
afterAll(() => hub.stop());

async function preview(changes: Partial<Pull>) {
  hub.pull({ number: 7, merged: false, mergeSha: 'a'.repeat(40), headSha: HEAD, timeline: [], ...changes });
  const github = createGitHub({ token: 'token', repository: 'org/homelab', baseUrl: hub.url });
  return previewApproval(7, [LABEL], github, () => undefined);
}

it.each<[string, Partial<Pull>, string | undefined, RegExp]>([
  [
    'a label after the last push',
    { timeline: [labeled(LABEL)] },
    undefined,
    /^✓ the label "approved" was set by octocat/,
  ],
  ['no label', {}, 'label-missing', /does not have the label "approved"\. https:\S+ Set the label before you merge\.$/],
  [
    'a label before the last push',
    { timeline: [labeled(LABEL), committed(HEAD)], pushes: [pushed(HEAD, '2026-11-20T13:00:00Z')] },
    'label-early',
    /remove the label and set it again\.$/,
  ],
  [
    'a label by a stranger',
    { timeline: [labeled(LABEL, 'stranger')] },
    'label-by-unauthorized',
    /Ask a user with write/,
  ],
  [
    'a label on a fork that is gone',
    { from: null, timeline: [labeled(LABEL)] },
    'label-unproven',
    /approve the last commit in a review\.$/,
  ],
])('an open pull request with %s gets the code of a merge, and a remedy for now', async (_, changes, code, line) => {
  const found = await preview(changes);
  expect({ code: found?.refusals[0]?.code, line: found?.lines[1] }).toEqual({
    code,
    line: expect.stringMatching(line),
  });
});

it('an open pull request is described with the approvals of its last commit', async () => {
  const review = { state: 'APPROVED', user: { login: 'octocat' }, commit_id: HEAD };
  const found = await preview({ timeline: [labeled(LABEL)], reviews: [review] });
  expect(found?.lines.at(-1)).toBe('✓ approvals of the last commit by users with write permission: 1 (octocat)');
  expect(found && summaryOfPreview(found)).toContain('### ✓ pull request \\#7 has the labels of its intents');
});

it('a merged pull request has no preview', async () => {
  expect(await preview({ merged: true })).toBeUndefined();
});
