import { type GitHubPort, nextPageOf, rateLimitOf } from '../../protocol/evidence/reader.ts';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';
import { type ReceivedResponse, sendLimitedRequest } from './http-request.ts';

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** Connects to GitHub's REST API for one repository, read only. Refuses with `github-unconfirmed` if an answer is not usable. */
export function createGitHubPort(apiUrl: string, repository: string, token: string): GitHubPort {
  const base = apiUrl.replace(/\/+$/, '');
  const unreadable = (what: string, why: string) => new Refused(refusals.githubUnreachable(`${what}: ${why}`));
  return {
    repository,
    unreadable,
    async get(path, what, absent = []) {
      const url = /^https?:/.test(path) ? path : base + path;
      let response: ReceivedResponse;
      try {
        // Follows no redirect: the token goes to the named host and no other.
        response = await sendLimitedRequest({
          url,
          headers: {
            Accept: 'application/vnd.github+json',
            Authorization: `Bearer ${token}`,
            'User-Agent': 'chatops-agent',
          },
          timeout: TIMEOUT_MS,
          maxBytes: MAX_ANSWER_BYTES,
        });
      } catch (error) {
        throw unreadable(what, messageOf(error));
      }
      const { status } = response;
      if (absent.includes(status)) return { status, body: undefined };
      if (status !== 200) throw unreadable(what, explain(response));
      try {
        const link = response.headers.link;
        return { status, body: JSON.parse(response.body.toString('utf8')), next: nextPageOf(headerOf(link), url) };
      } catch (error) {
        throw unreadable(what, error instanceof SyntaxError ? 'its answer is not JSON' : messageOf(error));
      }
    },
  };
}

/** Returns the cause that a status and its headers name. */
function explain({ status, headers, body }: ReceivedResponse): string {
  const limit = rateLimitOf(status, name => headerOf(headers[name]), body.toString('utf8', 0, 4096));
  if (!limit) return `it answered ${status}`;
  const until = new Date(Date.now() + limit.seconds * 1000).toISOString();
  return `it answered ${status}: its ${limit.kind === 'primary' ? '' : 'secondary '}rate limit is reached until ${until}`;
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value;
}
