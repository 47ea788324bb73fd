import { getOctokit } from '@actions/github';
import { retry } from '@octokit/plugin-retry';
import { throttling } from '@octokit/plugin-throttling';
import type { PullRequest, ReviewEntry, TimelineEntry } from '../protocol/evidence.ts';
import { Refused } from '../protocol/refusal.ts';
import { actionRefusals } from './refusals.ts';

export interface Commit {
  sha: string;
  message: string;
  parents: string[];
}

/** The questions that an approval asks GitHub. Reads every page. Refuses with `github-unreadable` if an answer is missing. */
export interface GitHub {
  /** Returns the commits after `before` up to `after`, with GitHub's word for their relation (`ahead`, `diverged`, …). */
  compare(before: string, after: string): Promise<{ status: string; commits: Commit[] }>;
  pullRequestsOf(sha: string): Promise<PullRequest[]>;
  /** Returns undefined if the repository has no pull request with that number. */
  pullRequest(number: number): Promise<PullRequest | undefined>;
  filesOf(number: number): Promise<string[]>;
  timelineOf(number: number): Promise<TimelineEntry[]>;
  reviewsOf(number: number): Promise<ReviewEntry[]>;
  permissionOf(login: string): Promise<string>;
}

type Values = { [name in 'sha' | 'number' | 'login' | 'basehead']?: string | number };

const PAGE = 100;
/** The number of repeated requests after a rate limit. */
const LIMIT_RETRIES = 3;
/** The longest wait for a rate limit, in seconds: GitHub's primary limit can last an hour, and a job must not hang for it. */
const LONGEST_WAIT = 60;
/** Repeating these doesn't help. 429 is a rate limit: the throttling plugin waits for it as long as GitHub asks. */
const DO_NOT_RETRY = [400, 401, 403, 404, 410, 422, 429, 451];

/** Connects to GitHub's REST API for one repository. `say` logs each wait for a rate limit. */
export function createGitHub(
  token: string,
  repository: string,
  baseUrl: string,
  say: (line: string) => void = () => undefined,
): GitHub {
  const waitFor = (limit: string) => (seconds: number, _options: object, _octokit: object, retries: number) => {
    if (seconds > LONGEST_WAIT || retries >= LIMIT_RETRIES) return false;
    say(`GitHub's ${limit} is reached. The action waits ${seconds} s and asks again.`);
    return true;
  };
  const octokit = getOctokit(
    token || 'none',
    {
      baseUrl,
      retry: { doNotRetry: DO_NOT_RETRY },
      throttle: {
        fallbackSecondaryRateRetryAfter: LONGEST_WAIT,
        onRateLimit: waitFor('rate limit'),
        onSecondaryRateLimit: waitFor('secondary rate limit'),
      },
    },
    markLimits,
    retry,
    throttling,
  );
  const [owner = '', repo = ''] = repository.split('/');
  const routeOf = (route: string) => `GET /repos/{owner}/{repo}${route}`;

  /** Returns `instead` if GitHub answers with a status of `absent`, and refuses every other error. */
  async function read<T, U = never>(what: string, asking: Promise<T>, absent: number[] = [], instead?: U) {
    try {
      return await asking;
    } catch (error) {
      if (absent.includes((error as FailedRequest).status ?? 0)) return instead as U;
      throw unreadable(what, error as FailedRequest);
    }
  }

  async function get<T>(route: string, values: Values): Promise<T> {
    return (await octokit.request(routeOf(route), { owner, repo, ...values })).data as T;
  }

  /** Returns the answers of all pages. */
  async function pages<T>(what: string, route: string, values: Values): Promise<T[]> {
    const found: T[] = [];
    const parameters = { owner, repo, ...values, per_page: PAGE };
    for await (const { url, data } of octokit.paginate.iterator(routeOf(route), parameters)) {
      // At status 409 the plugin ends with an empty page that has no address: entries would be missing.
      if (url === undefined) throw actionRefusals.githubUnreadable(what, 'GitHub answered 409');
      found.push(data as T);
    }
    return found;
  }

  async function list<T>(what: string, route: string, values: Values): Promise<T[]> {
    const found = await pages<T[]>(what, route, values);
    if (!found.every(page => Array.isArray(page)))
      throw actionRefusals.githubUnreadable(what, 'the answer is not a list');
    return found.flat();
  }

  return {
    async compare(before, after) {
      const what = `the commits ${before.slice(0, 8)}...${after.slice(0, 8)}`;
      interface Comparison {
        status: string;
        total_commits: number;
        commits: { sha: string; commit: { message: string }; parents: { sha: string }[] }[];
      }
      const found = await read(
        what,
        pages<Comparison>(what, '/compare/{basehead}', { basehead: `${before}...${after}` }),
      );
      const commits = found
        .flatMap(page => page.commits)
        .map(({ sha, commit, parents }) => ({ sha, message: commit.message, parents: parents.map(one => one.sha) }));
      const total = found[0]?.total_commits ?? 0;
      if (commits.length < total)
        throw actionRefusals.githubUnreadable(what, `the answer has ${commits.length} of ${total} commits`);
      return { status: found[0]?.status ?? '', commits };
    },
    pullRequestsOf(sha) {
      const what = `the pull requests of ${sha.slice(0, 8)}`;
      // Right after a merge GitHub's index does not know the commit yet.
      return read(what, list<PullRequest>(what, '/commits/{sha}/pulls', { sha }), [404, 422], []);
    },
    pullRequest: number =>
      read(`pull request #${number}`, get<PullRequest>('/pulls/{number}', { number }), [404], undefined),
    async filesOf(number) {
      const what = `the files of #${number}`;
      interface ChangedFile {
        filename: string;
        previous_filename?: string;
      }
      const files = await read(what, list<ChangedFile>(what, '/pulls/{number}/files', { number }));
      return files.flatMap(file => [file.filename, ...(file.previous_filename ? [file.previous_filename] : [])]);
    },
    timelineOf(number) {
      const what = `the timeline of #${number}`;
      return read(what, list<TimelineEntry>(what, '/issues/{number}/timeline', { number }));
    },
    reviewsOf(number) {
      const what = `the reviews of #${number}`;
      return read(what, list<ReviewEntry>(what, '/pulls/{number}/reviews', { number }));
    },
    async permissionOf(login) {
      const asking = get<{ permission: string; role_name?: string }>('/collaborators/{login}/permission', { login });
      // Apps and deleted accounts are not collaborators. Either way their labels count for nothing.
      const found = await read(`the permission of ${login}`, asking, [404], {
        permission: 'none',
        role_name: undefined,
      });
      return found.role_name ?? found.permission;
    },
  };
}

/** An error of octokit. If the connection failed it has no `response`, and the status 500. */
interface FailedRequest {
  status?: number;
  message: string;
  response?: { headers: Record<string, string | number | undefined> };
}

/**
 * Marks answers as a secondary rate limit if only their status and header say so, as those of a proxy do: the throttling
 * plugin looks for GitHub's words in the message.
 */
function markLimits({ hook }: Pick<ReturnType<typeof getOctokit>, 'hook'>): void {
  hook.error('request', error => {
    const { status, message, response } = error as FailedRequest;
    const isAskedToWait = response?.headers['retry-after'] !== undefined;
    const isSecondary = isAskedToWait || (status === 429 && response?.headers['x-ratelimit-remaining'] !== '0');
    if ((status === 403 || status === 429) && isSecondary && !/\bsecondary rate\b/i.test(message))
      error.message = `secondary rate limit: ${message}`;
    throw error;
  });
}

/** Returns the refusal for an error, with a remedy that fits its cause. */
function unreadable(what: string, error: FailedRequest): Refused {
  if (error instanceof Refused) return error;
  const { status, message, response } = error;
  // The plugins throw an error without a status if an answer is text, such as the page of a proxy.
  if (status === undefined)
    return actionRefusals.githubUnreadable(
      what,
      'the answer is not JSON',
      'Check that the runner reaches GitHub itself.',
    );
  if (!response)
    return actionRefusals.githubUnreadable(
      what,
      message,
      'Check that the runner reaches GitHub, and run the job again.',
    );
  const isLimit = status === 403 || status === 429;
  const { 'x-ratelimit-remaining': remaining, 'x-ratelimit-reset': reset = 0, 'retry-after': after } = response.headers;
  const minutes = Math.ceil(Number(after ?? LONGEST_WAIT) / 60);
  if (isLimit && /\bsecondary rate\b/i.test(message))
    return actionRefusals.githubUnreadable(
      what,
      `GitHub's secondary rate limit is reached (status ${status})`,
      `Run the job again in ${minutes > 1 ? `${minutes} minutes` : 'a minute'}.`,
    );
  if (isLimit && remaining === '0')
    return actionRefusals.githubUnreadable(
      what,
      `the rate limit of "github-token" is used up until ${new Date(Number(reset) * 1000).toISOString()}`,
      'Run the job again after that time, or pass a token with a limit of its own.',
    );
  return status < 500
    ? actionRefusals.githubUnreadable(what, `GitHub answered ${status}`)
    : actionRefusals.githubUnreadable(what, `GitHub answered ${status}`, 'Run the job again when GitHub works again.');
}
