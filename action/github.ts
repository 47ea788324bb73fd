import { getOctokit } from '@actions/github';
import { retry } from '@octokit/plugin-retry';
import { throttling } from '@octokit/plugin-throttling';
import { GitHubReader, nextPageOf, rateLimitOf } from '../protocol/evidence/reader.ts';
import { messageOf, Refused } from '../protocol/refusal.ts';
import { actionRefusals } from './refusals.ts';

/** The number of repeated requests after a rate limit. */
const LIMIT_RETRIES = 3;
/** The longest wait for a rate limit, in seconds: GitHub's primary limit can last an hour, and a job must not hang for it. */
const LONGEST_WAIT = 60;
/** Repeating these doesn't help. 429 is a rate limit: the throttling plugin waits for it as long as GitHub asks. */
const DO_NOT_RETRY = [400, 401, 403, 404, 410, 422, 429, 451];
/** The time limit for one request with its whole answer, in milliseconds. */
const TIMEOUT = 20_000;
/** The largest answer, in bytes. A page of a timeline has a few hundred KiB. */
const MAX_ANSWER = 32 * 1024 * 1024;

export interface GitHubOptions {
  token: string;
  /** Owner/name. */
  repository: string;
  baseUrl: string;
  /** Logs each wait for GitHub. */
  say?: (line: string) => void;
  /** For tests: the time limit for one request, in milliseconds. */
  timeout?: number;
}

/** Connects to GitHub's REST API for one repository. Refuses with `github-unreadable` if an answer is missing. */
export function createGitHub(options: GitHubOptions): GitHubReader {
  const { token, repository, baseUrl, say = () => undefined, timeout = TIMEOUT } = options;
  const waitFor = (limit: string) => (seconds: number, _options: object, _octokit: object, retries: number) => {
    if (seconds > LONGEST_WAIT || retries >= LIMIT_RETRIES) return false;
    say(`GitHub's ${limit} is reached. The action waits ${seconds} s and asks again.`);
    return true;
  };
  const octokit = getOctokit(
    token || 'none',
    {
      baseUrl,
      request: { fetch: createFetch(timeout) },
      retry: { doNotRetry: DO_NOT_RETRY },
      throttle: {
        fallbackSecondaryRateRetryAfter: LONGEST_WAIT,
        onRateLimit: waitFor('rate limit'),
        onSecondaryRateLimit: waitFor('secondary rate limit'),
      },
    },
    markLimits,
    logFailures(say),
    retry,
    throttling,
  );

  return new GitHubReader({
    repository,
    unreadable: actionRefusals.githubUnreadable,
    async get(path, what, absent = []) {
      const address = /^https?:/.test(path) ? path : `${baseUrl.replace(/\/+$/, '')}${path}`;
      try {
        // The address is complete, so that braces in it are not filled.
        const { status, data, headers, url } = await octokit.request('GET {+address}', { address });
        if (typeof data !== 'object' || data === null) throw notJson(what);
        return { status, body: data, next: nextPageOf(headers.link, url || address) };
      } catch (error) {
        const { status, response } = error as FailedRequest;
        if (response && absent.includes(status ?? 0)) return { status: status ?? 0, body: undefined };
        throw unreadable(what, error as FailedRequest);
      }
    },
  });
}

/** An error of octokit. If the connection failed it has no `response`, and the status 500. */
interface FailedRequest {
  status?: number;
  message: string;
  request?: { url: string };
  response?: { headers: Record<string, string | number | undefined> };
}

/** Returns a fetch whose whole exchange has a time limit, and whose answer has a size limit. */
function createFetch(timeout: number): typeof fetch {
  return async (input, init) => {
    const deadline = AbortSignal.timeout(timeout);
    try {
      const response = await fetch(input, { ...init, signal: deadline });
      const { status, statusText, headers, url } = response;
      const body = await readBounded(response);
      const read = new Response(status === 204 || status === 304 ? null : body, { status, statusText, headers });
      // The address after redirects, which a new Response does not have.
      return Object.defineProperty(read, 'url', { value: url });
    } catch (error) {
      throw deadline.aborted ? new Error(`no answer within ${timeout / 1000} s`) : error;
    }
  };
}

async function readBounded(response: Response): Promise<Buffer<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER) throw new Error(`an answer of more than ${MAX_ANSWER / 1024 / 1024} MiB`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

type Hooked = Pick<ReturnType<typeof getOctokit>, 'hook'>;

/**
 * Marks answers as a secondary rate limit if only their status and header say so, as those of a proxy do: the throttling
 * plugin looks for GitHub's words in the message.
 */
function markLimits({ hook }: Hooked): void {
  hook.error('request', error => {
    const failed = error as FailedRequest;
    if (limitOf(failed)?.kind === 'secondary' && !/\bsecondary rate\b/i.test(failed.message))
      error.message = `secondary rate limit: ${failed.message}`;
    throw error;
  });
}

/** Logs each answer that the retry plugin asks for again. */
function logFailures(say: (line: string) => void): (octokit: Hooked) => void {
  return ({ hook }) => {
    hook.error('request', error => {
      const { status = 0, message, request, response } = error as FailedRequest;
      const path = request && URL.canParse(request.url) ? new URL(request.url).pathname : '';
      if (status >= 500) say(`GitHub did not answer ${path}: ${response ? `status ${status}` : message}.`);
      throw error;
    });
  };
}

function limitOf({ status = 0, message, response }: FailedRequest) {
  const header = (name: string) => {
    const value = response?.headers[name];
    return value === undefined ? undefined : String(value);
  };
  return rateLimitOf(status, header, message);
}

function notJson(what: string): Refused {
  return actionRefusals.githubUnreadable(
    what,
    'the answer is not JSON',
    'Check that the runner reaches GitHub itself and not a proxy.',
  );
}

/** Returns the refusal for an error, with a remedy that fits its cause. */
function unreadable(what: string, error: FailedRequest): Refused {
  if (error instanceof Refused) return error;
  const { status, message, response } = error;
  // The plugins throw an error without a status if an answer is text, such as the page of a proxy.
  if (status === undefined && !(error instanceof RangeError)) return notJson(what);
  if (!response)
    return actionRefusals.githubUnreadable(
      what,
      messageOf(error),
      'Check that the runner reaches GitHub, and run the job again.',
    );
  const limit = limitOf(error);
  if (limit?.kind === 'secondary') {
    const minutes = Math.ceil(limit.seconds / 60);
    return actionRefusals.githubUnreadable(
      what,
      `GitHub's secondary rate limit is reached (status ${status})`,
      `Run the job again in ${minutes > 1 ? `${minutes} minutes` : 'a minute'}.`,
    );
  }
  if (limit) {
    const reset = new Date(Number(response.headers['x-ratelimit-reset']) * 1000);
    return actionRefusals.githubUnreadable(
      what,
      `the rate limit of "github-token" is used up until ${reset.toISOString()}`,
      'Run the job again after that time, or pass a token with a limit of its own.',
    );
  }
  const [why, remedy] = explainStatus(status ?? 0, message);
  return actionRefusals.githubUnreadable(what, why, remedy);
}

/** Returns the cause that a status names, and the remedy if it is not a permission. */
function explainStatus(status: number, message: string): [why: string, remedy?: string] {
  if (status >= 500) return [`GitHub answered ${status}`, 'Run the job again when GitHub works again.'];
  if (status === 401)
    return ['GitHub answered 401: the token is not valid', 'Check the input "github-token", and run the job again.'];
  if (status === 403) return [`GitHub answered 403: ${message.slice(0, 200).split(' - ')[0]}`];
  if (status === 404) return ['GitHub answered 404: it does not exist, or the token does not see it'];
  return [`GitHub answered ${status}`];
}
