import { messageOf, Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';

const TIMEOUT_MS = 15_000;
const PAGE = 100;
/** More pages than any pull request has. */
const MAX_PAGES = 50;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** GitHub's REST API for one repository, read only. Throws `Refused` `github-unconfirmed` if an answer is not usable. */
export class GitHubReader {
  readonly #base: string;
  readonly #token: string;

  constructor(apiUrl: string, repository: string, token: string) {
    this.#base = `${apiUrl.replace(/\/+$/, '')}/repos/${repository}`;
    this.#token = token;
  }

  /** Returns undefined for an object that GitHub does not have, or does not show to this token. */
  async get<T>(path: string): Promise<T | undefined> {
    let response: Response;
    try {
      response = await fetch(this.#base + path, {
        headers: {
          Accept: 'application/vnd.github+json',
          Authorization: `Bearer ${this.#token}`,
          'User-Agent': 'chatops-agent',
        },
        // The token goes to the named host and no other.
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch (error) {
      throw new Refused(refusals.githubUnreachable(`${path}: ${messageOf(error)}`));
    }
    if (response.status === 404 || response.status === 422) return undefined;
    if (!response.ok) throw new Refused(refusals.githubUnreachable(`${path}: it answered ${response.status}`));
    const length = Number(response.headers.get('content-length') ?? 0);
    if (length > MAX_ANSWER_BYTES) throw new Refused(refusals.githubUnreachable(`${path}: its answer is too large`));
    try {
      return (await response.json()) as T;
    } catch {
      throw new Refused(refusals.githubUnreachable(`${path}: its answer is not JSON`));
    }
  }

  /** Returns all pages of a list. */
  async all<T>(path: string): Promise<T[]> {
    const items: T[] = [];
    for (let page = 1; page <= MAX_PAGES; page++) {
      const part = (await this.get<T[]>(`${path}?per_page=${PAGE}&page=${page}`)) ?? [];
      items.push(...part);
      if (part.length < PAGE) return items;
    }
    throw new Refused(refusals.githubUnreachable(`${path}: it has more than ${MAX_PAGES} pages`));
  }
}
