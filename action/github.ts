import { setTimeout as sleep } from 'node:timers/promises';
import { getOctokit } from '@actions/github';
import type { PullRequest, ReviewEntry, TimelineEntry } from '../protocol/evidence.ts';
import { refusals } from './refusals.ts';

export interface Commit {
  sha: string;
  message: string;
  parents: string[];
}

/** What the approval asks GitHub. Every page is read; what can't be read refuses with `github-unreadable`. */
export interface GitHub {
  /** The commits from `before` (not included) to `after`, or undefined where the two have no common history. */
  compare(before: string, after: string): Promise<{ status: string; commits: Commit[] }>;
  pullRequestsOf(sha: string): Promise<PullRequest[]>;
  /** Undefined where there is none of that number. */
  pullRequest(number: number): Promise<PullRequest | undefined>;
  filesOf(number: number): Promise<string[]>;
  timelineOf(number: number): Promise<TimelineEntry[]>;
  reviewsOf(number: number): Promise<ReviewEntry[]>;
  permissionOf(login: string): Promise<string>;
}

const PAGE = 100;
const TRIES = 4;

/** GitHub's REST API for one repository. `wait` is how it waits between tries. */
export function createGitHub(
  token: string,
  repository: string,
  baseUrl: string,
  wait: (ms: number) => Promise<unknown> = ms => sleep(ms),
): GitHub {
  const octokit = getOctokit(token || 'none', { baseUrl });
  const [owner = '', repo = ''] = repository.split('/');

  async function get<T>(route: string, values: Record<string, string | number> = {}): Promise<T> {
    for (let tried = 1; ; tried++) {
      try {
        const { data } = await octokit.request(`GET /repos/{owner}/{repo}${route}`, { owner, repo, ...values });
        return data as T;
      } catch (error) {
        const { status, response } = error as { status?: number; response?: { headers?: Record<string, string> } };
        const limited = status === 429 || (status === 403 && response?.headers?.['retry-after'] !== undefined);
        const passing = status === undefined || status >= 500 || limited;
        if (!passing || tried === TRIES) throw error;
        const asked = Number(response?.headers?.['retry-after'] ?? 0) * 1000;
        await wait(Math.min(Math.max(asked, 1000 * 2 ** (tried - 1)), 60_000));
      }
    }
  }

  /** Refuses what can't be read; 404 of what may be absent is told apart by the caller. */
  async function read<T>(what: string, route: string, values?: Record<string, string | number>): Promise<T> {
    try {
      return await get<T>(route, values);
    } catch (error) {
      const { status, message } = error as { status?: number; message: string };
      throw refusals.githubUnreadable(what, status === undefined ? message : `it answered ${status}`);
    }
  }

  async function all<T>(what: string, route: string, values: Record<string, string | number> = {}): Promise<T[]> {
    const found: T[] = [];
    for (let page = 1; ; page++) {
      const part = await read<T[]>(what, route, { ...values, per_page: PAGE, page });
      if (!Array.isArray(part)) throw refusals.githubUnreadable(what, 'it answered something else than a list');
      found.push(...part);
      if (part.length < PAGE) return found;
    }
  }

  return {
    async compare(before, after) {
      const what = `the commits ${before.slice(0, 8)}...${after.slice(0, 8)}`;
      const commits: Commit[] = [];
      for (let page = 1; ; page++) {
        const part = await read<{
          status: string;
          total_commits: number;
          commits: { sha: string; commit: { message: string }; parents: { sha: string }[] }[];
        }>(what, '/compare/{basehead}', { basehead: `${before}...${after}`, per_page: PAGE, page });
        for (const { sha, commit, parents } of part.commits) {
          commits.push({ sha, message: commit.message, parents: parents.map(parent => parent.sha) });
        }
        if (commits.length >= part.total_commits) return { status: part.status, commits };
        if (part.commits.length === 0)
          throw refusals.githubUnreadable(what, `only ${commits.length} of ${part.total_commits} came`);
      }
    },
    async pullRequestsOf(sha) {
      try {
        return await get<PullRequest[]>('/commits/{sha}/pulls', { sha, per_page: PAGE });
      } catch (error) {
        const { status, message } = error as { status?: number; message: string };
        // Right after a merge the index does not know the commit yet.
        if (status === 404 || status === 422) return [];
        throw refusals.githubUnreadable(
          `the pull requests of ${sha.slice(0, 8)}`,
          status === undefined ? message : `it answered ${status}`,
        );
      }
    },
    async pullRequest(number) {
      try {
        return await get<PullRequest>('/pulls/{number}', { number });
      } catch (error) {
        const { status, message } = error as { status?: number; message: string };
        if (status === 404) return undefined;
        throw refusals.githubUnreadable(
          `pull request #${number}`,
          status === undefined ? message : `it answered ${status}`,
        );
      }
    },
    async filesOf(number) {
      const files = await all<{ filename: string; previous_filename?: string }>(
        `the files of #${number}`,
        '/pulls/{number}/files',
        { number },
      );
      return files.flatMap(file => [file.filename, ...(file.previous_filename ? [file.previous_filename] : [])]);
    },
    timelineOf: number => all<TimelineEntry>(`the timeline of #${number}`, '/issues/{number}/timeline', { number }),
    reviewsOf: number => all<ReviewEntry>(`the reviews of #${number}`, '/pulls/{number}/reviews', { number }),
    async permissionOf(login) {
      try {
        const { permission, role_name } = await get<{ permission: string; role_name?: string }>(
          '/collaborators/{login}/permission',
          { login },
        );
        return role_name ?? permission;
      } catch (error) {
        const { status, message } = error as { status?: number; message: string };
        // Apps and people who are gone are no collaborators. Either way their labels count for nothing.
        if (status === 404) return 'none';
        throw refusals.githubUnreadable(
          `the permission of ${login}`,
          status === undefined ? message : `it answered ${status}`,
        );
      }
    },
  };
}
