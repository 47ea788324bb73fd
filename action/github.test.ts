import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Refusal, Refused } from '../protocol/refusal.ts';
import { committed, GitHubDouble, labeled } from '../test/doubles/github.ts';
import { recordWaits } from '../test/doubles/waits.ts';
import { createGitHub } from './github.ts';

const REPOSITORY = 'org/homelab';
const SHA = 'aa'.repeat(20);
const hub = new GitHubDouble(REPOSITORY);
const waits: number[] = [];
const said: string[] = [];
const github = () => createGitHub('token', REPOSITORY, hub.url, line => said.push(line));
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
    expect({ waits, said }).toEqual({ waits: [1000, 4000, 9000], said: [] });
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
    fail(1, 403);
    const { message, remedy } = await refusalOf(github().timelineOf(1));
    expect({ message, remedy, asked: hub.asked.length, waits }).toEqual({
      message: 'Could not read the timeline of #1 from GitHub: GitHub answered 403.',
      remedy:
        'Give the job "permissions: contents: read, pull-requests: read", check the input "github-token", and run the job again.',
      asked: 1,
      waits: [],
    });
  });

  it('is refused if the answer is a page of a proxy and not JSON', async () => {
    const proxy = createServer((_, response) => response.end('<html>Sign in</html>')).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const { message } = await refusalOf(createGitHub('token', REPOSITORY, url).timelineOf(1));
    proxy.close();
    expect(message).toBe('Could not read the timeline of #1 from GitHub: the answer is not JSON.');
  });

  it('names the cause if the connection fails', async () => {
    const unreachable = createGitHub('token', REPOSITORY, 'http://127.0.0.1:1');
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
      expect({ length, last: files.at(-1) }).toEqual({
        length: files.length,
        last: length ? `file-${length - 1}` : undefined,
      });
    }
  });

  it('is refused if a page of it answers with a conflict, which the library takes for its end', async () => {
    hub.pull({ number: 1, mergeSha: SHA, files: Array.from({ length: 150 }, (_, n) => `file-${n}`) });
    for (let n = 0; n < 4; n++) hub.failures.push({ path: '/files', status: 409 });
    const { message } = await refusalOf(github().filesOf(1));
    expect(message).toBe('Could not read the files of #1 from GitHub: GitHub answered 409.');
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
