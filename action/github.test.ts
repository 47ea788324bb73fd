import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Refusal, Refused } from '../protocol/refusal.ts';
import { GitHubDouble } from '../test/doubles/github.ts';
import { committed, labeled } from '../test/doubles/github-events.ts';
import { recordWaits } from '../test/doubles/waits.ts';
import { createGitHub } from './github.ts';

const REPOSITORY = 'org/homelab';
const SHA = 'aa'.repeat(20);
const hub = new GitHubDouble(REPOSITORY);
const waits: number[] = [];
const said: string[] = [];
const github = (baseUrl = hub.url, timeout?: number) =>
  createGitHub({
    token: 'token',
    repository: REPOSITORY,
    baseUrl,
    say: line => said.push(line),
    ...(timeout === undefined ? {} : { timeout }),
  });
const seconds = (ms: number) => String(Math.floor((Date.now() + ms) / 1000));

beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => {
  hub.failures.length = 0;
  hub.asked.length = 0;
  waits.length = 0;
  said.length = 0;
  hub.pull({ number: 1, mergeSha: SHA, timeline: [committed(SHA), labeled('ok')] });
  recordWaits(waits);
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function refusalOf(work: Promise<unknown>): Promise<Refusal> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Refused) return error.refusal;
    throw error;
  }
  throw new Error('nothing was refused');
}
const fail = (times: number, status: number, headers?: Record<string, string>, message?: string) => {
  for (let n = 0; n < times; n++)
    hub.failures.push({ path: '/timeline', status, ...(headers ? { headers } : {}), ...(message ? { message } : {}) });
};

describe('a request to GitHub', () => {
  it('is repeated after a server error, with a longer pause each time', async () => {
    fail(3, 502);
    expect(await github().timelineOf(1)).toHaveLength(2);
    expect({ waits, said }).toEqual({
      waits: [1000, 4000, 9000],
      said: Array(3).fill('GitHub did not answer /repos/org/homelab/issues/1/timeline: status 502.'),
    });
  });

  it('is given up after the fourth server error', async () => {
    fail(9, 503);
    expect(await refusalOf(github().timelineOf(1))).toEqual({
      code: 'github-unreadable',
      message: 'Could not read the timeline of #1 from GitHub: GitHub answered 503.',
      remedy: 'Run the job again when GitHub works again.',
    });
    expect(hub.asked).toHaveLength(4);
  });

  it('is not repeated if the token has no right to it, and the remedy names the permissions', async () => {
    fail(1, 403, {}, 'Resource not accessible');
    const { message, remedy } = await refusalOf(github().timelineOf(1));
    expect({ message, remedy, asked: hub.asked.length, waits }).toEqual({
      message: 'Could not read the timeline of #1 from GitHub: GitHub answered 403: Resource not accessible.',
      remedy:
        'Give the job "permissions: contents: read, pull-requests: read", check the input "github-token", and run the job again.',
      asked: 1,
      waits: [],
    });
  });

  it.each<[string, string, string]>([
    ['a page of a proxy', '<html>Sign in</html>', 'the answer is not JSON'],
    ['cut JSON', '[{"event":"labeled"', 'the answer is not JSON'],
    ['null', 'null', 'the answer is not JSON'],
    ['an object in place of a list', '{}', 'the answer has an unknown shape: it is not as documented'],
    [
      'a label without a name',
      '[{"event":"labeled"}]',
      'the answer has an unknown shape: "0.event" is not as documented',
    ],
  ])('is refused if the answer is %s', async (_, raw, why) => {
    hub.failures.push({ path: '/timeline', raw });
    const { code, message } = await refusalOf(github().timelineOf(1));
    expect({ code, message }).toEqual({
      code: 'github-unreadable',
      message: `Could not read the timeline of #1 from GitHub: ${why}.`,
    });
  });

  it.each(['silent', 'drip'] as const)('is refused after its time limit if the answer is %s', async hang => {
    hub.failures.push({ path: '/timeline', hang, always: true });
    const { message, remedy } = await refusalOf(github(hub.url, 300).timelineOf(1));
    expect({ message, remedy, waits }).toEqual({
      message: 'Could not read the timeline of #1 from GitHub: no answer within 0.3 s.',
      remedy: 'Check that the runner reaches GitHub, and run the job again.',
      waits: [1000, 4000, 9000],
    });
  });

  it('is refused if the answer is too large, and not kept in memory', async () => {
    const page = Buffer.alloc(1024 * 1024, ' ');
    const server = createServer(async (_, response) => {
      response.on('error', () => undefined);
      for (let n = 0; n < 40 && !response.destroyed; n++) if (!response.write(page)) await once(response, 'drain');
      response.end('[]');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { message } = await refusalOf(github(url).timelineOf(1));
    server.closeAllConnections();
    server.close();
    expect(message).toBe('Could not read the timeline of #1 from GitHub: an answer of more than 32 MiB.');
  });

  it('names a commit that is missing, and an invalid token', async () => {
    const missing = await refusalOf(github().compare('bb'.repeat(20), SHA));
    expect(missing).toMatchObject({
      code: 'github-unreadable',
      message: expect.stringContaining('one of them does not exist (any more)'),
      remedy: expect.stringContaining('Merge another pull request'),
    });
    fail(1, 401);
    expect((await refusalOf(github().timelineOf(1))).message).toContain('GitHub answered 401: the token is not valid.');
  });

  it('names the cause if the connection fails', async () => {
    const unreachable = github('http://127.0.0.1:1');
    const { message, remedy } = await refusalOf(unreachable.pullRequest(1));
    expect(message).toMatch(/^Could not read pull request #1 from GitHub: .*(ECONNREFUSED|bad port).*\.$/);
    expect(remedy).toBe('Check that the runner reaches GitHub, and run the job again.');
    expect(waits).toEqual([1000, 4000, 9000]);
  });
});

describe('a rate limit of GitHub', () => {
  it.each<[string, number, Record<string, string>, string | undefined, number]>([
    ['with its words and a time', 403, { 'retry-after': '7' }, 'You have exceeded a secondary rate limit.', 7000],
    ['with its words alone', 403, {}, 'You have exceeded a secondary rate limit.', 60_000],
    ['with a time alone', 403, { 'retry-after': '7' }, undefined, 7000],
    ['as status 429 with a time', 429, { 'retry-after': '60' }, undefined, 60_000],
    ['as status 429 alone', 429, {}, undefined, 60_000],
  ])('is waited for, and the wait is logged: %s', async (_, status, headers, message, expected) => {
    fail(1, status, headers, message);
    expect(await github().timelineOf(1)).toHaveLength(2);
    expect({ waits, said }).toEqual({
      waits: [expected],
      said: [`GitHub's secondary rate limit is reached. The action waits ${expected / 1000} s and asks again.`],
    });
  });

  it('is waited for three times at most', async () => {
    fail(9, 429, { 'retry-after': '2' });
    const { message, remedy } = await refusalOf(github().timelineOf(1));
    expect({ message, remedy, waits }).toEqual({
      message: "Could not read the timeline of #1 from GitHub: GitHub's secondary rate limit is reached (status 429).",
      remedy: 'Run the job again in a minute.',
      waits: [2000, 2000, 2000],
    });
  });

  it('is not waited for if it lasts longer than a minute', async () => {
    fail(1, 403, { 'retry-after': '600' });
    const { remedy } = await refusalOf(github().timelineOf(1));
    expect({ remedy, waits, asked: hub.asked.length }).toEqual({
      remedy: 'Run the job again in 10 minutes.',
      waits: [],
      asked: 1,
    });
  });

  it('of a token is waited for if it is reset within a minute', async () => {
    fail(1, 403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': seconds(5000) });
    expect(await github().timelineOf(1)).toHaveLength(2);
    expect(waits).toHaveLength(1);
    expect(said).toEqual([
      expect.stringMatching(/^GitHub's rate limit is reached\. The action waits [4-7] s and asks again\.$/),
    ]);
  });

  it('of a token is refused with the time of its reset if that is an hour away', async () => {
    fail(1, 403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1893456000' });
    const { code, message, remedy } = await refusalOf(github().timelineOf(1));
    expect({ code, message, remedy, waits, said }).toEqual({
      code: 'github-unreadable',
      message:
        'Could not read the timeline of #1 from GitHub: the rate limit of "github-token" is used up until 2030-01-01T00:00:00.000Z.',
      remedy: 'Run the job again after that time, or pass a token with a limit of its own.',
      waits: [],
      said: [],
    });
  });
});

describe('a list', () => {
  it('is read to its last page, whatever its length', async () => {
    for (const length of [0, 1, 99, 100, 101, 200, 201]) {
      hub.pull({ number: 1, mergeSha: SHA, files: Array.from({ length }, (_, n) => `file-${n}`) });
      const files = await github().filesOf(1);
      expect({ length, last: files?.at(-1) }).toEqual({
        length: files?.length,
        last: length ? `file-${length - 1}` : undefined,
      });
    }
  });

  it('is read to the page without a next one, also if GitHub sends short pages', async () => {
    hub.pageSize = 30;
    hub.pull({ number: 1, mergeSha: SHA, files: Array.from({ length: 95 }, (_, n) => `file-${n}`) });
    expect(await github().filesOf(1)).toHaveLength(95);
    hub.pageSize = 100;
  });

  it.each([404, 409, 422])('is refused if a later page of it answers %i, which is not its end', async status => {
    hub.pull({ number: 1, mergeSha: SHA, files: Array.from({ length: 150 }, (_, n) => `file-${n}`) });
    hub.failures.push({ path: '/files', raw: '[]', headers: { Link: `<${hub.url}/later>; rel="next"` } });
    hub.failures.push({ path: '/later', status, always: true });
    const { code, message } = await refusalOf(github().filesOf(1));
    hub.failures.length = 0;
    expect({ code, names: message.includes(`GitHub answered ${status}`) }, message).toEqual({
      code: 'github-unreadable',
      names: true,
    });
  });

  it('is refused if its next page is on another host, which would get the token', async () => {
    hub.failures.push({ path: '/files', raw: '[]', headers: { Link: '<http://127.0.0.2:1/x>; rel="next"' } });
    expect((await refusalOf(github().filesOf(1))).message).toContain('its next page is on another host');
  });

  it('of 3,000 files may miss some, so that it is not a list of all files', async () => {
    hub.pull({ number: 1, mergeSha: SHA, files: Array.from({ length: 3001 }, (_, n) => `file-${n}`) });
    expect(await github().filesOf(1)).toBeUndefined();
  });

  it('of a pull request or a commit that GitHub does not know is absent, not an error', async () => {
    const found = {
      pull: await github().pullRequest(9),
      pulls: await github().pullRequestsOf('bb'.repeat(20)),
      permission: await github().permissionOf('stranger'),
    };
    expect(found).toEqual({ pull: undefined, pulls: [], permission: 'none' });
  });
});
