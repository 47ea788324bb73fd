import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Entries of a timeline as `GET /repos/…/issues/N/timeline` documents them, with the fields that the action reads. */
export type Entry =
  | { event: 'labeled' | 'unlabeled'; label: { name: string }; actor: { login: string }; created_at: string }
  | { event: 'committed'; sha: string }
  | { event: 'head_ref_force_pushed' | 'merged' | 'base_ref_changed'; actor: { login: string }; created_at: string };

export interface Pull {
  number: number;
  merged: boolean;
  mergeSha: string;
  headSha: string;
  base: string;
  /** Owner/name of the head's repository. */
  from: string;
  timeline: Entry[];
  reviews: { state: string; user: { login: string }; commit_id: string }[];
  files: string[];
  /** Commits that GitHub's index lists for this pull request. */
  commits: string[];
}

const AT = '2026-11-20T12:00:00Z';
/** Shorthands for timelines. */
export const labeled = (name: string, login = 'octocat'): Entry => ({
  event: 'labeled',
  label: { name },
  actor: { login },
  created_at: AT,
});
export const unlabeled = (name: string, login = 'octocat'): Entry => ({
  event: 'unlabeled',
  label: { name },
  actor: { login },
  created_at: AT,
});
export const committed = (sha: string): Entry => ({ event: 'committed', sha });
export const forcePushed = (login = 'octocat'): Entry => ({
  event: 'head_ref_force_pushed',
  actor: { login },
  created_at: AT,
});
export const merged = (login = 'octocat'): Entry => ({ event: 'merged', actor: { login }, created_at: AT });

/** Stands in for GitHub's REST API of one repository: the endpoints that the action reads, with pages. */
export class GitHubDouble {
  readonly repository: string;
  readonly pulls = new Map<number, Pull>();
  /** Commits with parents and message. */
  readonly commits = new Map<string, { parents: string[]; message: string }>();
  readonly permissions = new Map<string, { permission: string; role_name: string }>([
    ['octocat', { permission: 'write', role_name: 'write' }],
  ]);
  /** Number of the next empty answers to "pull requests of a commit", as right after a merge. */
  lag = 0;
  /** Error statuses for the next requests, each selected by a part of the path and used once. */
  readonly failures: { path: string; status: number; headers?: Record<string, string>; message?: string }[] = [];
  readonly asked: string[] = [];
  /** Workflow runs by their id. */
  readonly runs = new Map<string, object>();
  /** The folder of a repository, for trees and blobs. */
  git: string | undefined;
  #server: Server | undefined;

  constructor(repository: string) {
    this.repository = repository;
  }

  async start(): Promise<void> {
    this.#server = createServer((request, response) => this.#answer(request, response)).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get url(): string {
    const address = this.#server?.address() as AddressInfo | null | undefined;
    return `http://127.0.0.1:${address?.port ?? 0}`;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  commit(sha: string, parents: string[], message = 'a change'): void {
    this.commits.set(sha, { parents, message });
  }

  /** Adds a pull request; by default it is merged and its merge commit is indexed. */
  pull(pull: Partial<Pull> & { number: number; mergeSha: string }): Pull {
    const added: Pull = {
      merged: true,
      headSha: pull.mergeSha,
      base: 'main',
      from: this.repository,
      timeline: [merged()],
      reviews: [],
      files: [],
      commits: [pull.mergeSha],
      ...pull,
    };
    this.pulls.set(added.number, added);
    return added;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', this.url);
    const path = decodeURIComponent(url.pathname).replace(`/repos/${this.repository}`, '');
    this.asked.push(path);
    const failing = this.failures.find(failure => path.includes(failure.path));
    if (failing) this.failures.splice(this.failures.indexOf(failing), 1);
    const body = this.#read(path);
    const { status = body === undefined ? 404 : 200, headers = {} } = failing ?? {};
    const next = status === 200 ? nextPageOf(body, url) : undefined;
    const link = next === undefined ? {} : { Link: `<${next}>; rel="next"` };
    response.writeHead(status, { 'Content-Type': 'application/json', ...link, ...headers });
    response.end(
      JSON.stringify(status === 200 ? pageOf(body, url.searchParams) : { message: failing?.message ?? 'as scripted' }),
    );
  }

  #read(path: string): object | unknown[] | undefined {
    if (path === '')
      return { id: 7001, full_name: this.repository, owner: { id: 1, login: this.repository.split('/')[0] } };
    const run = /^\/actions\/runs\/(\w+)$/.exec(path)?.[1];
    if (run !== undefined) return this.runs.get(run);
    const [, kind, sha] = /^\/git\/(trees|blobs)\/([0-9a-f]+)$/.exec(path) ?? [];
    if (kind !== undefined && sha !== undefined) return this.#object(kind, sha);
    const [, number, rest] = /^\/(?:pulls|issues)\/(\d+)(\/\w+)?$/.exec(path) ?? [];
    if (number !== undefined) {
      const pull = this.pulls.get(Number(number));
      if (!pull) return undefined;
      if (rest === '/timeline') return pull.timeline;
      if (rest === '/reviews') return pull.reviews;
      if (rest === '/files') return pull.files.map(filename => ({ filename, status: 'modified' }));
      return this.#pullBody(pull);
    }
    const commit = /^\/commits\/([0-9a-f]+)\/pulls$/.exec(path)?.[1];
    if (commit !== undefined) {
      if (this.lag > 0) {
        this.lag--;
        return [];
      }
      return [...this.pulls.values()].filter(pull => pull.commits.includes(commit)).map(pull => this.#pullBody(pull));
    }
    const login = /^\/collaborators\/([^/]+)\/permission$/.exec(path)?.[1];
    if (login !== undefined) return this.permissions.get(login);
    const [, before, after] = /^\/compare\/([0-9a-f]+)\.\.\.([0-9a-f]+)$/.exec(path) ?? [];
    if (before !== undefined && after !== undefined) return this.#compare(before, after);
    return undefined;
  }

  /** Returns a blob, or a tree with all entries below it, as git stores it. */
  #object(kind: string, sha: string): object | undefined {
    if (this.git === undefined) return undefined;
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', this.git ?? '', ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      if (kind === 'blobs')
        return { sha, encoding: 'base64', content: git('cat-file', 'blob', sha).toString('base64') };
      const rows = git('ls-tree', '-r', '-t', sha).toString().split('\n').filter(Boolean);
      const tree = rows.map(row => {
        const [, mode, type, object, path] = /^(\d+) (\w+) ([0-9a-f]+)\t(.*)$/.exec(row) ?? [];
        return { path, mode, type, sha: object };
      });
      return { sha, tree, truncated: false };
    } catch {
      return undefined;
    }
  }

  #compare(before: string, after: string): object | undefined {
    const excluded = this.#ancestors(before);
    const commits = [...this.#ancestors(after)].filter(sha => !excluded.has(sha)).reverse();
    if (!this.commits.has(after)) return undefined;
    const status = before === after ? 'identical' : this.#ancestors(after).has(before) ? 'ahead' : 'diverged';
    return {
      url: `${this.url}/repos/${this.repository}/compare/${before}...${after}`,
      status,
      total_commits: commits.length,
      commits: commits.map(sha => ({
        sha,
        commit: { message: this.commits.get(sha)?.message ?? '' },
        parents: (this.commits.get(sha)?.parents ?? []).map(parent => ({ sha: parent })),
      })),
    };
  }

  #ancestors(sha: string, found = new Set<string>()): Set<string> {
    const open = [sha];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (found.has(next)) continue;
      found.add(next);
      open.push(...(this.commits.get(next)?.parents ?? []));
    }
    return found;
  }

  #pullBody(pull: Pull): object {
    return {
      number: pull.number,
      state: pull.merged ? 'closed' : 'open',
      merged: pull.merged,
      merged_at: pull.merged ? AT : null,
      merge_commit_sha: pull.mergeSha,
      merged_by: pull.merged ? { login: 'octocat' } : null,
      head: {
        sha: pull.headSha,
        ref: 'change',
        repo: { id: pull.from === this.repository ? 7001 : 7002, full_name: pull.from },
      },
      base: { ref: pull.base, repo: { id: 7001, full_name: this.repository } },
    };
  }
}

/** Returns the payload of a push event with the fields that the action reads. */
export function pushEvent(repository: string, before: string, after: string, changes: object = {}): object {
  return {
    ref: 'refs/heads/main',
    before,
    after,
    created: false,
    deleted: false,
    forced: false,
    repository: { id: 7001, full_name: repository, default_branch: 'main' },
    ...changes,
  };
}

/** Returns the payload of a pull_request event, by default with the action `closed`. */
export function pullRequestEvent(repository: string, pull: Pull, changes: { action?: string } = {}): object {
  return {
    action: changes.action ?? 'closed',
    number: pull.number,
    pull_request: {
      number: pull.number,
      merged: pull.merged,
      merge_commit_sha: pull.mergeSha,
      head: {
        sha: pull.headSha,
        ref: 'change',
        repo: { id: pull.from === repository ? 7001 : 7002, full_name: pull.from },
      },
      base: { ref: pull.base, repo: { id: 7001, full_name: repository } },
    },
    repository: { id: 7001, full_name: repository, default_branch: 'main' },
  };
}

/** Returns one page of a list, or of the commits of a comparison. */
function pageOf(body: object | unknown[] | undefined, query: URLSearchParams): unknown {
  const size = Number(query.get('per_page') ?? 30);
  const page = Number(query.get('page') ?? 1);
  const part = <T>(all: T[]) => all.slice((page - 1) * size, page * size);
  if (Array.isArray(body)) return part(body);
  if (body && 'commits' in body && Array.isArray(body.commits)) return { ...body, commits: part(body.commits) };
  return body;
}

/** Returns the address of the next page for GitHub's header `Link`. */
function nextPageOf(body: object | unknown[] | undefined, url: URL): URL | undefined {
  const all = Array.isArray(body) ? body : body && 'commits' in body && Array.isArray(body.commits) ? body.commits : [];
  const size = Number(url.searchParams.get('per_page') ?? 30);
  const page = Number(url.searchParams.get('page') ?? 1);
  if (page * size >= all.length) return undefined;
  const next = new URL(url);
  next.searchParams.set('page', String(page + 1));
  return next;
}
