import { z } from 'zod';
import {
  ActivityEntry,
  Collaborator,
  Comparison,
  GitCommit,
  PullFile,
  PullRequest,
  Reference,
  RepositoryInfo,
  ReviewEntry,
  TimelineEntry,
} from './answers.ts';

/** One answer of GitHub's REST API. `next` is the address of the next page, from the header `Link`. */
interface GitHubAnswer {
  status: number;
  body: unknown;
  next?: string | undefined;
}

/** Sends requests for one repository, with a deadline and a limit for the size of each answer. */
export interface GitHubPort {
  /** The repository as owner/name. */
  repository: string;
  /**
   * Reads a path of the API, or the address of a next page. Returns the answer if its status is 200 or one of `absent`, and
   * throws a refusal that names the cause otherwise. `what` names the object in messages.
   */
  get(path: string, what: string, absent?: readonly number[]): Promise<GitHubAnswer>;
  /** Builds the refusal for an answer that is not usable. `why` completes the sentence "Could not read …: …". */
  unreadable(what: string, why: string, remedy?: string): Error;
}

export interface Commit {
  sha: string;
  message: string;
  parents: string[];
}

/** The commits and files of a comparison. */
export interface Changes {
  status: z.infer<typeof Comparison>['status'];
  commits: Commit[];
  /** The names of all changed files, also earlier ones; undefined if GitHub's list may be incomplete. */
  files: string[] | undefined;
}

const PAGE = 100;
/** More pages than any list of a pull request has. */
const MAX_PAGES = 100;
/** GitHub lists at most this many files of a pull request, and of a comparison. */
const MAX_PULL_FILES = 3_000;
const MAX_COMPARED_FILES = 300;

/**
 * Asks GitHub the questions of the evidence. Follows the header `Link` to the last page, and refuses an answer of an unknown
 * shape, so that a missing entry is never taken for an absent one.
 */
export class GitHubReader {
  readonly #port: GitHubPort;

  constructor(port: GitHubPort) {
    this.#port = port;
  }

  get repository(): string {
    return this.#port.repository;
  }

  /** Returns the commits after `before` up to `after`, GitHub's word for their relation, and the changed files. */
  async compare(before: string, after: string): Promise<Changes> {
    const changes = await this.#compare(before, after);
    if (changes) return changes;
    throw this.#port.unreadable(
      nameOf(before, after),
      'one of them does not exist (any more), or the token does not see the repository',
      'Merge another pull request: a commit that a forced push removed can’t be compared.',
    );
  }

  /** Compares like `compare`. Returns undefined if only `before` does not exist (any more): a forced push removed it. */
  async compareIfKnown(before: string, after: string): Promise<Changes | undefined> {
    const changes = await this.#compare(before, after);
    if (changes) return changes;
    const isGone = !(await this.#hasCommit(before)) && (await this.#hasCommit(after));
    // Names the cause: the other commit is missing, or the token does not see the repository.
    return isGone ? undefined : this.compare(before, after);
  }

  async #hasCommit(sha: string): Promise<boolean> {
    const found = await this.read(GitCommit, `the commit ${sha.slice(0, 8)}`, `/git/commits/${sha}`, [404, 422]);
    return found !== undefined;
  }

  /** Returns undefined if GitHub does not have one of the commits. */
  async #compare(before: string, after: string): Promise<Changes | undefined> {
    const what = nameOf(before, after);
    const base = [before, after].map(encodeURIComponent).join('...');
    const pages = await this.#pages(Comparison, what, `${this.#root}/compare/${base}?per_page=${PAGE}`, [404]);
    const [first] = pages;
    if (!first) return undefined;
    const commits = pages.flatMap(page => page.commits);
    if (commits.length < first.total_commits)
      throw this.#port.unreadable(what, `the answer has ${commits.length} of ${first.total_commits} commits`);
    const files = first.files;
    return {
      status: first.status,
      commits: commits.map(({ sha, commit, parents }) => ({
        sha,
        message: commit.message,
        parents: parents.map(parent => parent.sha),
      })),
      files: files && files.length < MAX_COMPARED_FILES ? namesOf(files) : undefined,
    };
  }

  /** Lists the pull requests of a commit. Right after a merge GitHub's index does not know the commit yet. */
  pullRequestsOf(sha: string): Promise<PullRequest[]> {
    return this.#list(PullRequest, `the pull requests of ${sha.slice(0, 8)}`, `/commits/${sha}/pulls`, [404, 422]);
  }

  /** Returns undefined if the repository has no pull request with that number. */
  pullRequest(number: number): Promise<PullRequest | undefined> {
    return this.read(PullRequest, `pull request #${number}`, `/pulls/${number}`, [404]);
  }

  /** Lists the names of the files that a pull request changes, also earlier ones; undefined if the list may be incomplete. */
  async filesOf(number: number): Promise<string[] | undefined> {
    const files = await this.#list(PullFile, `the files of #${number}`, `/pulls/${number}/files`);
    return files.length < MAX_PULL_FILES ? namesOf(files) : undefined;
  }

  timelineOf(number: number): Promise<TimelineEntry[]> {
    return this.#list(TimelineEntry, `the timeline of #${number}`, `/issues/${number}/timeline`);
  }

  reviewsOf(number: number): Promise<ReviewEntry[]> {
    return this.#list(ReviewEntry, `the reviews of #${number}`, `/pulls/${number}/reviews`);
  }

  /**
   * Lists the activity of a branch, newest first, up to the first entry that `isEnough`. Returns undefined if GitHub does not
   * show it: the repository was deleted, is private, or the server has no such list.
   */
  async activityOf(
    repository: string,
    branch: string,
    isEnough: (entry: ActivityEntry) => boolean,
  ): Promise<ActivityEntry[] | undefined> {
    const ref = `refs/heads/${branch}`;
    const path = `/repos/${repository}/activity?ref=${encodeURIComponent(ref)}&per_page=${PAGE}`;
    const entries: ActivityEntry[] = [];
    for await (const page of this.#eachPage(z.array(ActivityEntry), `the activity of ${branch}`, path, [403, 404])) {
      if (page === undefined) return undefined;
      entries.push(...page.filter(entry => entry.ref === ref));
      if (entries.some(isEnough)) break;
    }
    return entries;
  }

  /** Returns the role of an account in the repository. A stranger, an app and a deleted account have none. */
  async permissionOf(login: string): Promise<string> {
    const path = `/collaborators/${encodeURIComponent(login)}/permission`;
    const found = await this.read(Collaborator, `the permission of ${login}`, path, [404]);
    return found?.role_name ?? found?.permission ?? 'none';
  }

  async defaultBranch(): Promise<string> {
    const found = await this.read(RepositoryInfo, 'the repository', '');
    return found?.default_branch ?? '';
  }

  /** Returns the newest commit of a branch. */
  async tipOf(branch: string): Promise<string> {
    const path = `/git/ref/heads/${branch.split('/').map(encodeURIComponent).join('/')}`;
    const found = await this.read(Reference, `the branch ${branch}`, path);
    return found?.object.sha ?? '';
  }

  /** Reads one object below the repository. Returns undefined if the status of the answer is one of `absent`. */
  async read<T>(shape: z.ZodType<T>, what: string, path: string, absent: number[] = []): Promise<T | undefined> {
    const { status, body } = await this.#port.get(this.#root + path, what, absent);
    return status === 200 ? this.#parse(shape, what, body) : undefined;
  }

  get #root(): string {
    return `/repos/${this.#port.repository}`;
  }

  /** Returns an empty list if the status of the first answer is one of `absent`. */
  async #list<T>(shape: z.ZodType<T>, what: string, path: string, absent: number[] = []): Promise<T[]> {
    return (await this.#pages(z.array(shape), what, `${this.#root}${path}?per_page=${PAGE}`, absent)).flat();
  }

  async #pages<T>(shape: z.ZodType<T>, what: string, path: string, absent: number[] = []): Promise<T[]> {
    const found: T[] = [];
    for await (const page of this.#eachPage(shape, what, path, absent)) if (page !== undefined) found.push(page);
    return found;
  }

  /** Yields undefined if the status of the first answer is one of `absent`. A later page can't be absent. */
  async *#eachPage<T>(
    shape: z.ZodType<T>,
    what: string,
    path: string,
    absent: number[] = [],
  ): AsyncGenerator<T | undefined> {
    let next: string | undefined = path;
    for (let page = 1; next !== undefined; page++) {
      if (page > MAX_PAGES) throw this.#port.unreadable(what, `the list has more than ${MAX_PAGES} pages`);
      const answer: GitHubAnswer = await this.#port.get(next, what, page === 1 ? absent : []);
      if (answer.status !== 200) {
        yield undefined;
        return;
      }
      yield this.#parse(shape, what, answer.body);
      next = answer.next;
    }
  }

  #parse<T>(shape: z.ZodType<T>, what: string, body: unknown): T {
    const result = shape.safeParse(body);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    const field = issue?.path.length ? `"${issue.path.join('.')}" is not as documented` : 'it is not as documented';
    throw this.#port.unreadable(
      what,
      `the answer has an unknown shape: ${field}`,
      'Check that GITHUB_API_URL is the API of GitHub and not a proxy.',
    );
  }
}

function nameOf(before: string, after: string): string {
  return `the commits ${before.slice(0, 8)}...${after.slice(0, 8)}`;
}

function namesOf(files: z.infer<typeof PullFile>[]): string[] {
  return files.flatMap(({ filename, previous_filename }) =>
    previous_filename ? [filename, previous_filename] : [filename],
  );
}

/** Returns the address of the next page in a header `Link`, if it is on the host of `from`. */
export function nextPageOf(link: string | undefined, from: string): string | undefined {
  const next = link?.split(',').find(part => /;\s*rel="?next"?/.test(part));
  const address = next === undefined ? undefined : /<([^>]*)>/.exec(next)?.[1];
  if (address === undefined) return undefined;
  const url = new URL(address, from);
  // The token goes to no other host.
  if (url.origin !== new URL(from).origin) throw new RangeError('its next page is on another host');
  return url.href;
}

/** A rate limit of GitHub: of the token, or a secondary one for many requests at once. */
export interface RateLimit {
  kind: 'primary' | 'secondary';
  /** The seconds until requests are answered again. */
  seconds: number;
}

/** The seconds to wait for a secondary limit that names no time, as GitHub asks. */
const SECONDARY_WAIT = 60;

/** Returns the rate limit that an answer reports, by its headers or by GitHub's words; undefined if it reports none. */
export function rateLimitOf(
  status: number,
  header: (name: string) => string | undefined,
  message: string,
  now: number = Date.now(),
): RateLimit | undefined {
  if (status !== 403 && status !== 429) return undefined;
  const after = Number(header('retry-after'));
  if (Number.isFinite(after) && header('retry-after') !== undefined) return { kind: 'secondary', seconds: after };
  if (header('x-ratelimit-remaining') === '0' && !/\bsecondary rate\b/i.test(message)) {
    const reset = Number(header('x-ratelimit-reset')) * 1000;
    return { kind: 'primary', seconds: Math.max(0, Math.ceil((reset - now) / 1000)) };
  }
  if (/\bsecondary rate\b/i.test(message) || status === 429) return { kind: 'secondary', seconds: SECONDARY_WAIT };
  return undefined;
}
