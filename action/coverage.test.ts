import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Refused } from '../protocol/refusal.ts';
import { GitHubDouble } from '../test/doubles/github.ts';
import { labeled, merged, pushEvent } from '../test/doubles/github-events.ts';
import { Repository } from '../test/stand/repository.ts';
import { type Gathered, gatherApproval } from './approval.ts';
import type { HostDocument } from './coverage.ts';
import { createGitHub } from './github.ts';
import { readTrigger } from './trigger.ts';

const LABEL = 'approved';
const INTENT = 'chatops/intents/web.yaml';
const COMPOSE = 'stacks/web/compose.yaml';
const dir = mkdtempSync(join(tmpdir(), 'chatops-coverage-'));
const hub = new GitHubDouble('org/homelab');
let repository: Repository;
let pulls = 0;
const said: string[] = [];

beforeAll(() => hub.start());
afterAll(async () => {
  await hub.stop();
  rmSync(dir, { recursive: true });
});
beforeEach(() => {
  hub.commits.clear();
  hub.pulls.clear();
  hub.failures.length = 0;
  said.length = 0;
  repository = new Repository(join(dir, String(++pulls)));
  hub.git = repository.dir;
  push({ [INTENT]: 'one', [COMPOSE]: 'tag 1', 'README.md': 'one' });
});

/** Pushes a commit directly. Returns it. */
function push(files: Record<string, string | null>): string {
  const parents = hub.commits.size === 0 ? [] : [repository.head()];
  const sha = repository.commit('a change', files);
  hub.commit(sha, parents);
  return sha;
}
/** Merges a pull request, by default with the label. Returns its merge commit. */
function merge(files: Record<string, string | null>, isLabelled = true): string {
  const sha = push(files);
  const timeline = isLabelled ? [labeled(LABEL), merged()] : [merged()];
  hub.pull({ number: ++pulls, mergeSha: sha, files: Object.keys(files), timeline });
  return sha;
}
const parentOf = (sha: string) => hub.commits.get(sha)?.parents[0] ?? '';

/** Gathers the evidence for the push of a commit to a host that deployed another one last. */
function gather(sha: string, since: string | null, changes: Partial<HostDocument> = {}): Promise<Gathered> {
  const document = { host: '', name: 'web', stack: 'web', files: [INTENT], paths: [INTENT, 'stacks/web/'] };
  return gatherFor(sha, { event: 'push', documents: [{ ...document, since, isFirst: since === null, ...changes }] });
}
async function gatherFor(
  sha: string,
  { event, documents, pullRequest }: { event: string; documents: HostDocument[]; pullRequest?: number },
): Promise<Gathered> {
  const env = {
    GITHUB_EVENT_NAME: event,
    GITHUB_REPOSITORY: 'org/homelab',
    GITHUB_REF: 'refs/heads/main',
    GITHUB_SHA: sha,
  };
  const trigger = readTrigger(env, pushEvent('org/homelab', parentOf(sha), sha), 'run');
  const github = createGitHub({ token: 'token', repository: 'org/homelab', baseUrl: hub.url });
  return gatherApproval(trigger, github, {
    ...{
      wanted: [LABEL],
      paths: [INTENT, 'stacks/web/', 'hosts.yaml'],
      shared: ['hosts.yaml'],
      pullRequest,
      deploys: true,
    },
    deployed: async () => documents,
    say: line => said.push(line),
    wait: async () => undefined,
  });
}
async function refusalOf(work: Promise<unknown>): Promise<{ code: string; message: string; remedy?: string }> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Refused) return error.refusal;
    throw error;
  }
  return { code: 'admitted', message: '' };
}
const codeOf = async (work: Promise<unknown>) => (await refusalOf(work)).code;

describe('a change without approval', () => {
  it('is not deployed along with the next approved pull request, which is refused and names it', async () => {
    const deployed = merge({ [INTENT]: 'two' });
    merge({ [COMPOSE]: 'tag 2' }, false);
    const unlabelled = pulls;
    const next = merge({ [INTENT]: 'three' });
    expect(await refusalOf(gather(next, deployed))).toMatchObject({
      code: 'label-missing',
      message: `Pull request #${unlabelled} did not have the label "approved" when it was merged. https://github.com/org/homelab/pull/${unlabelled}`,
    });
  });

  it('that was pushed directly is not deployed along with a pull request that changes something else', async () => {
    const deployed = merge({ [INTENT]: 'two' });
    const direct = push({ [COMPOSE]: 'tag 3' });
    const next = merge({ 'README.md': 'two' });
    const { code, message } = await refusalOf(gather(next, deployed));
    expect({ code, names: message.includes(direct.slice(0, 8)) }).toEqual({ code: 'no-pull-request', names: true });
  });

  it('is deployed after it was reverted and merged again with its approval', async () => {
    const deployed = merge({ [INTENT]: 'two' });
    merge({ [COMPOSE]: 'tag 2' }, false);
    const reverted = merge({ [COMPOSE]: 'tag 1' });
    expect(await codeOf(gather(reverted, deployed))).toBe('admitted');
    const other = merge({ [INTENT]: 'three' });
    expect(await codeOf(gather(other, deployed))).toBe('admitted');
    const again = merge({ [COMPOSE]: 'tag 2' });
    expect(await codeOf(gather(again, reverted))).toBe('admitted');
  });

  it('counts under its earlier name, and in the hosts file', async () => {
    const deployed = merge({ 'shared/base.yaml': 'long enough to be found again\n'.repeat(5) });
    merge({ 'shared/base.yaml': null, 'stacks/web/base.yaml': 'long enough to be found again\n'.repeat(5) }, false);
    expect(await codeOf(gather(merge({ 'README.md': 'two' }), deployed))).toBe('label-missing');
    const moved = repository.head();
    merge({ 'hosts.yaml': 'elsewhere' }, false);
    expect(await codeOf(gather(merge({ 'README.md': 'three' }), moved))).toBe('label-missing');
  });

  it('of other files does not matter, and costs one request more however many there are', async () => {
    const asked = async (sha: string, since: string) => {
      hub.asked.length = 0;
      await gather(sha, since);
      return hub.asked.map(path => path.replace(/[0-9a-f]{40}/g, 'SHA').replace(/\d+/, 'N'));
    };
    const deployed = merge({ [INTENT]: 'two' });
    const common = ['/commits/SHA/pulls', '/issues/N/timeline', '/pulls/N/reviews', '/activity'];
    const all = ['/compare/SHA...SHA', ...common, '/collaborators/octocat/permission'];
    expect(await asked(merge({ [INTENT]: 'three' }), deployed)).toEqual(all);
    const newest = repository.head();
    for (let n = 0; n < 20; n++) merge({ 'README.md': `${n}` }, false);
    expect(await asked(merge({ [INTENT]: 'four' }), newest)).toEqual([...all, '/compare/SHA...SHA']);
  });
});

describe('an older commit', () => {
  it('is refused after a newer one was deployed, also without evidence', async () => {
    const old = merge({ [COMPOSE]: 'tag 2' });
    const newer = merge({ [COMPOSE]: 'tag 3' });
    expect(await codeOf(gather(old, newer))).toBe('older-than-deployed');
    const [document] = [{ host: '', name: 'web', stack: 'web', files: [INTENT], paths: [INTENT], isFirst: false }];
    const dispatch = gatherFor(old, { event: 'workflow_dispatch', documents: [{ ...document, since: newer }] });
    expect(await codeOf(dispatch)).toBe('older-than-deployed');
  });

  it('is admitted again if it is the one that was deployed last', async () => {
    const sha = merge({ [COMPOSE]: 'tag 2' });
    expect(await codeOf(gather(sha, sha))).toBe('admitted');
  });
});

describe('a commit that a forced push replaced', () => {
  it.each([true, false])('is refused with a remedy that works, if GitHub still has the commit: %s', async isKept => {
    const deployed = merge({ [COMPOSE]: 'tag 2' });
    repository.git('reset', '--quiet', '--hard', parentOf(deployed));
    const next = merge({ [COMPOSE]: 'tag 3' });
    if (!isKept) hub.commits.delete(deployed);
    expect(await refusalOf(gather(next, deployed))).toEqual({
      code: 'history-rewritten',
      message: `The commit ${deployed.slice(0, 8)}, which the host deployed last, is not in the history of ${next.slice(0, 8)}: a forced push replaced it.`,
      remedy:
        'Nothing was deployed. Run one job with the input "allow-older: true"; the rule of agent.yaml that allows it needs "allow_older: true".',
    });
    // The input "allow-older" asks no host.
    const without = gatherFor(next, { event: 'push', documents: [] });
    expect(await codeOf(without)).toBe('admitted');
    const event = 'workflow_dispatch';
    const [document] = [{ host: '', name: 'web', stack: 'web', files: [INTENT], paths: [INTENT], isFirst: false }];
    expect(await codeOf(gatherFor(next, { event, documents: [{ ...document, since: deployed }] }))).toBe(
      'history-rewritten',
    );
  });

  it('is not to blame if GitHub shows neither commit', async () => {
    const deployed = merge({ [COMPOSE]: 'tag 2' });
    const event = 'workflow_dispatch';
    const [document] = [{ host: '', name: 'web', stack: 'web', files: [INTENT], paths: [INTENT], isFirst: false }];
    const next = merge({ [COMPOSE]: 'tag 3' });
    hub.failures.push({ path: '/git/commits/', status: 404, always: true });
    hub.failures.push({ path: `/compare/${deployed}`, status: 404, always: true });
    expect(await codeOf(gatherFor(next, { event, documents: [{ ...document, since: deployed }] }))).toBe(
      'github-unreadable',
    );
  });

  it('counts as not in the history if a dispatch names its pull request', async () => {
    const named = merge({ [COMPOSE]: 'tag 2' });
    const pullRequest = pulls;
    repository.git('reset', '--quiet', '--hard', parentOf(named));
    const next = merge({ [COMPOSE]: 'tag 3' });
    hub.commits.delete(named);
    expect(await codeOf(gatherFor(next, { event: 'workflow_dispatch', documents: [], pullRequest }))).toBe(
      'pull-request-not-in-history',
    );
  });
});

describe('the first deployment of a document', () => {
  it('has the content of its commit as the baseline, which is said, if the event brings it', async () => {
    const sha = merge({ [INTENT]: 'two' });
    const { covers } = await gather(sha, null);
    expect({ covers: covers.get(''), said }).toEqual({
      covers: [{ name: 'web', stack: 'web', since: null, commits: [{ sha, pull_request: pulls }] }],
      said: [
        `The host has not deployed "web" yet. Its content at ${sha.slice(0, 8)} is the baseline, and the evidence is about this event only.`,
      ],
    });
    expect(await codeOf(gather(merge({ 'README.md': 'two' }), null))).toBe('first-deployment-unapproved');
  });

  it('needs a pull request for the intent itself if the host has deployed another one', async () => {
    const deployed = merge({ 'README.md': 'two' });
    const isFirst = true;
    expect(await codeOf(gather(merge({ [COMPOSE]: 'tag 2' }), deployed, { isFirst }))).toBe(
      'first-deployment-unapproved',
    );
    expect(await codeOf(gather(merge({ [INTENT]: 'two' }), deployed, { isFirst }))).toBe('admitted');
  });
});

describe('a dispatch', () => {
  it('needs no approval of changes before the last deployment, but of each one since', async () => {
    const named = merge({ [INTENT]: 'two' });
    const number = pulls;
    merge({ [COMPOSE]: 'tag 2' }, false);
    const sha = merge({ [COMPOSE]: 'tag 3' });
    const document = {
      host: '',
      name: 'web',
      stack: 'web',
      files: [INTENT],
      paths: [INTENT, 'stacks/web/'],
      isFirst: false,
    };
    const dispatch = (since: string | null) =>
      codeOf(gatherFor(sha, { event: 'workflow_dispatch', documents: [{ ...document, since }], pullRequest: number }));
    expect(await dispatch(sha)).toBe('admitted');
    expect(await dispatch(parentOf(sha))).toBe('admitted');
    expect(await dispatch(named)).toBe('label-missing');
    expect(await dispatch(null)).toBe('label-missing');
  });
});
