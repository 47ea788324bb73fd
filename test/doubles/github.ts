import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AT, committed, type Entry, merged, PUSHED_AT, type Pull, pushed } from './github-events.ts';

/** The answer to a request whose path contains `path`, used once unless `always` is set. */
export interface Scripted {
  path: string;
  /** Only for requests with this token: jobs that run at the same time each have their own answers. */
  token?: string;
  /** 200 by default. */
  status?: number;
  headers?: Record<string, string>;
  message?: string;
  /** The body of the answer as it is, in place of JSON with a message. */
  raw?: string;
  /** Sends nothing, or a byte every 100 ms. */
  hang?: 'silent' | 'drip';
  /** Sends the answer later. */
  after?: Promise<unknown>;
  always?: boolean;
}

/**
 * Stands in for GitHub's REST API of one repository and the activity of its forks: the endpoints that are read, with pages.
 * Like GitHub it lists commits in a timeline by the committer's date, and never more than 3,000 files.
 */
export class GitHubDouble {
  readonly repository: string;
  readonly pulls = new Map<number, Pull>();
  /** Commits with parents, message and changed files. */
  readonly commits = new Map<string, { parents: string[]; message: string; files: string[] }>();
  readonly permissions = new Map<string, { permission: string; role_name: string }>([
    ['octocat', { permission: 'write', role_name: 'write' }],
  ]);
  /** Number of the next empty answers to "pull requests of a commit", as right after a merge. */
  lag = 0;
  /** Number of the next answers that lack the newest activity of a branch. */
  activityLag = 0;
  /** Number of the next timelines that lack the commits. */
  timelineLag = 0;
  /** The branch to which pushes go, and its name in the repository. */
  defaultBranch = 'main';
  /** Repositories that the token does not see. */
  readonly hidden = new Set<string>();
  /** The most entries of a page, if that is less than the request asks for. */
  pageSize = 100;
  /** Answers for the next requests. */
  readonly failures: Scripted[] = [];
  readonly asked: string[] = [];
  /** Workflow runs by their id. */
  readonly runs = new Map<string, object>();
  /** The folder of a repository, for trees and blobs. */
  git: string | undefined;
  /** Returns the files that differ between two commits, in place of git. */
  diff: ((before: string, after: string) => string[]) | undefined;
  /** The commit before a push to the default branch, if that is not the parent of its newest commit. */
  readonly pushedFrom = new Map<string, string>();
  /** The newest commit of the default branch; by default the last one that was added. */
  tip: string | undefined;
  #server: Server | undefined;

  constructor(repository: string) {
    this.repository = repository;
  }

  async start(): Promise<void> {
    this.#server = createServer((request, response) => void this.#answer(request, response)).listen(0, '127.0.0.1');
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

  commit(sha: string, parents: string[], message = 'a change', files: string[] = []): void {
    this.commits.set(sha, { parents, message, files });
  }

  /**
   * Adds a pull request; by default its head was pushed once, it is merged and its merge commit is indexed. The timeline
   * begins with the commit of the head unless it names it elsewhere.
   */
  pull(pull: Partial<Pull> & { number: number; mergeSha: string }): Pull {
    const headSha = pull.headSha ?? pull.mergeSha;
    const added: Pull = {
      merged: true,
      mergedAt: AT,
      headSha,
      headRef: `change-${pull.number}`,
      base: this.defaultBranch,
      from: this.repository,
      timeline: [merged()],
      pushes: [pushed(headSha)],
      reviews: [],
      files: [],
      commits: [pull.mergeSha],
      ...pull,
    };
    this.pulls.set(added.number, added);
    return added;
  }

  /** Answers without a connection: the status, the body and the next page of an address. */
  answer(url: URL): { status: number; body: unknown; next: string | undefined } {
    const body = this.#read(pathOf(url, this.repository), url.searchParams);
    if (body === undefined) return { status: 404, body: { message: 'Not Found' }, next: undefined };
    const next = nextPageOf(body, url, this.pageSize);
    return { status: 200, body: pageOf(body, url.searchParams, this.pageSize), next: next?.href };
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const path = pathOf(url, this.repository);
    this.asked.push(path);
    const scripted = this.failures.find(
      failure =>
        path.includes(failure.path) && (!failure.token || request.headers.authorization?.endsWith(` ${failure.token}`)),
    );
    if (scripted && !scripted.always) this.failures.splice(this.failures.indexOf(scripted), 1);
    if (scripted?.hang) {
      hang(response, scripted.hang);
      return;
    }
    await scripted?.after;
    const body = this.#read(path, url.searchParams);
    const { status = scripted?.raw !== undefined ? 200 : body === undefined ? 404 : 200, headers = {} } =
      scripted ?? {};
    const next = status === 200 ? nextPageOf(body, url, this.pageSize) : undefined;
    const link = next === undefined ? {} : { Link: `<${next}>; rel="next"` };
    response.writeHead(status, { 'Content-Type': 'application/json', ...link, ...headers });
    const text = JSON.stringify(
      status === 200
        ? pageOf(body, url.searchParams, this.pageSize)
        : { message: scripted?.message ?? (status === 404 ? 'Not Found' : 'as scripted') },
    );
    response.end(scripted?.raw ?? text);
  }

  #read(path: string, query: URLSearchParams): object | unknown[] | undefined {
    if (path === '')
      return {
        id: 7001,
        full_name: this.repository,
        default_branch: this.defaultBranch,
        owner: { id: 1, login: this.repository.split('/')[0] },
      };
    const run = /^\/actions\/runs\/(\w+)$/.exec(path)?.[1];
    if (run !== undefined) return this.runs.get(run);
    const [, kind, sha] = /^\/git\/(trees|blobs)\/([0-9a-f]+)$/.exec(path) ?? [];
    if (kind !== undefined && sha !== undefined) return this.#object(kind, sha);
    if (path === `/git/ref/heads/${this.defaultBranch}`) return { object: { sha: this.#tip() } };
    const known = /^\/git\/commits\/([0-9a-f]+)$/.exec(path)?.[1];
    if (known !== undefined) return this.commits.has(known) ? { sha: known } : undefined;
    const fork = /^(?:\/repos\/(.+))?\/activity$/.exec(path);
    if (fork) return this.#activity(fork[1] ?? this.repository, query.get('ref') ?? '');
    const [, number, rest] = /^\/(?:pulls|issues)\/(\d+)(\/\w+)?$/.exec(path) ?? [];
    if (number !== undefined) {
      const pull = this.pulls.get(Number(number));
      if (!pull) return undefined;
      if (rest === '/timeline') return this.#timeline(pull);
      if (rest === '/reviews') return pull.reviews.map(review => ({ submitted_at: PUSHED_AT, ...review }));
      if (rest === '/files') return pull.files.slice(0, 3000).map(filename => ({ filename, status: 'modified' }));
      return { ...this.#pullBody(pull), merged_by: pull.merged ? { login: 'octocat' } : null };
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
    const [, before, after] = /^\/compare\/([0-9a-f]+)\.\.\.(.+)$/.exec(path) ?? [];
    if (before !== undefined && after !== undefined)
      return this.#compare(before, after === this.defaultBranch ? this.#tip() : after);
    return undefined;
  }

  /** The newest commit of the default branch: the last one that was added. */
  #tip(): string {
    return this.tip ?? [...this.commits.keys()].at(-1) ?? '';
  }

  #activity(repository: string, ref: string): object[] | undefined {
    if (this.hidden.has(repository)) return undefined;
    if (repository === this.repository && ref === `refs/heads/${this.defaultBranch}`)
      return [...this.commits].reverse().map(([after, { parents }]) => {
        const before = this.pushedFrom.get(after) ?? parents[0] ?? '0'.repeat(40);
        return { ref, before, after, timestamp: AT, activity_type: 'pr_merge' };
      });
    const entries = [...this.pulls.values()]
      .filter(pull => pull.from === repository && `refs/heads/${pull.headRef}` === ref)
      .flatMap(pull => pull.pushes)
      .sort((a, b) => b.timestamp.localeCompare(a.timestamp))
      .map(entry => ({ before: '0'.repeat(40), ref, actor: { login: 'octocat' }, ...entry }));
    if (this.activityLag === 0) return entries;
    this.activityLag--;
    return entries.slice(1);
  }

  #timeline(pull: Pull): Entry[] {
    const isDated = (entry: Entry) => 'committer' in entry;
    const isListed = pull.timeline.some(entry => entry.event === 'committed' && entry.sha === pull.headSha);
    const listed = isListed ? [] : [committed(pull.headSha)];
    listed.push(...pull.timeline.filter(entry => !isDated(entry)));
    for (const entry of pull.timeline.filter(isDated)) {
      const date = Date.parse('committer' in entry ? (entry.committer?.date ?? '') : '');
      const place = listed.findIndex(one => 'created_at' in one && Date.parse(one.created_at) > date);
      listed.splice(place < 0 ? listed.length : place, 0, entry);
    }
    if (this.timelineLag === 0) return listed;
    this.timelineLag--;
    return listed.filter(({ event }) => event !== 'committed');
  }

  /** Returns a blob, or a tree with all entries below it, as git stores it. */
  #object(kind: string, sha: string): object | undefined {
    if (kind === 'blobs') {
      const blob = this.#git('cat-file', 'blob', sha);
      return blob && { sha, encoding: 'base64', content: blob.toString('base64') };
    }
    const rows = this.#git('ls-tree', '-r', '-t', sha);
    if (!rows) return undefined;
    const tree = linesOf(rows).map(row => {
      const [, mode, type, object, path] = /^(\d+) (\w+) ([0-9a-f]+)\t(.*)$/.exec(row) ?? [];
      return { path, mode, type, sha: object };
    });
    return { sha, tree, truncated: false };
  }

  /** Returns the output of git in the repository, or undefined if it fails: the repository does not have the object. */
  #git(...args: string[]): Buffer | undefined {
    if (this.git === undefined) return undefined;
    try {
      return execFileSync('git', ['-C', this.git, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return undefined;
    }
  }

  #compare(before: string, after: string): object | undefined {
    const excluded = this.#ancestors(before);
    const commits = [...this.#ancestors(after)].filter(sha => !excluded.has(sha)).reverse();
    if (!this.commits.has(after)) return undefined;
    if (!this.commits.has(before)) return undefined;
    const status =
      before === after
        ? 'identical'
        : this.#ancestors(after).has(before)
          ? 'ahead'
          : excluded.has(after)
            ? 'behind'
            : 'diverged';
    return {
      url: `${this.url}/repos/${this.repository}/compare/${before}...${after}`,
      status,
      total_commits: commits.length,
      commits: commits.map(sha => ({
        sha,
        commit: { message: this.commits.get(sha)?.message ?? '' },
        parents: (this.commits.get(sha)?.parents ?? []).map(parent => ({ sha: parent })),
      })),
      files: this.#changedFiles(before, after, commits).slice(0, 300),
    };
  }

  /** The difference of two commits in git, or all files of the commits if there is no repository with them. */
  #changedFiles(before: string, after: string, commits: string[]): { filename: string; previous_filename?: string }[] {
    if (this.diff) return this.diff(before, after).map(filename => ({ filename }));
    const rows = this.#git('diff', '--name-status', '--find-renames', before, after);
    if (rows === undefined)
      return [...new Set(commits.flatMap(sha => this.commits.get(sha)?.files ?? []))].map(filename => ({ filename }));
    return linesOf(rows).map(row => {
      const [, first = '', second] = row.split('\t');
      return second === undefined ? { filename: first } : { filename: second, previous_filename: first };
    });
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
      html_url: `https://github.com/${this.repository}/pull/${pull.number}`,
      state: pull.merged ? 'closed' : 'open',
      merged_at: pull.merged ? pull.mergedAt : null,
      merge_commit_sha: pull.mergeSha,
      head: {
        sha: pull.headSha,
        ref: pull.headRef,
        repo: pull.from === null ? null : { id: pull.from === this.repository ? 7001 : 7002, full_name: pull.from },
      },
      base: { ref: pull.base, repo: { id: 7001, full_name: this.repository } },
    };
  }
}

function pathOf(url: URL, repository: string): string {
  return decodeURIComponent(url.pathname)
    .replace(/^\/api\/v3/, '')
    .replace(`/repos/${repository}`, '');
}

function linesOf(output: Buffer): string[] {
  return output.toString().split('\n').filter(Boolean);
}

/** Keeps a request open, with or without bytes of an answer. */
function hang(response: ServerResponse, kind: 'silent' | 'drip'): void {
  if (kind === 'silent') return;
  response.writeHead(200, { 'Content-Type': 'application/json' });
  const drips = setInterval(() => response.write(' '), 100);
  response.on('close', () => clearInterval(drips));
}

/** The page that a query asks for: its number and size. GitHub may answer with fewer entries than asked for. */
function pageIn(query: URLSearchParams, most: number): { size: number; page: number } {
  return { size: Math.min(most, Number(query.get('per_page') ?? 30)), page: Number(query.get('page') ?? 1) };
}

/** Returns one page of a list, or of the commits of a comparison. */
function pageOf(body: object | unknown[] | undefined, query: URLSearchParams, most: number): unknown {
  const { size, page } = pageIn(query, most);
  const part = <T>(all: T[]) => all.slice((page - 1) * size, page * size);
  if (Array.isArray(body)) return part(body);
  if (body && 'commits' in body && Array.isArray(body.commits)) {
    const { files, ...rest } = body as { files?: unknown; commits: unknown[] };
    return { ...rest, commits: part(rest.commits), ...(page === 1 ? { files } : {}) };
  }
  return body;
}

/** Returns the address of the next page for GitHub's header `Link`. */
function nextPageOf(body: object | unknown[] | undefined, url: URL, most: number): URL | undefined {
  const all = Array.isArray(body) ? body : body && 'commits' in body && Array.isArray(body.commits) ? body.commits : [];
  const { size, page } = pageIn(url.searchParams, most);
  if (page * size >= all.length) return undefined;
  const next = new URL(url);
  next.searchParams.set('page', String(page + 1));
  return next;
}
