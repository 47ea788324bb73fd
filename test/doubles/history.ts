import { GitHubDouble } from './github.ts';
import { forcePushed, labeled, merged, type Pull, unlabeled } from './github-events.ts';

/** One thing that happens. Its numbers choose among what is possible when it happens. */
export interface Happening {
  kind:
    | 'open'
    | 'push'
    | 'force'
    | 'label'
    | 'unlabel'
    | 'base'
    | 'review'
    | 'merge'
    | 'queue'
    | 'direct'
    | 'honest'
    | 'revert'
    | 'lag'
    | 'fork-gone'
    | 'job'
    | 'dispatch';
  a: number;
  b: number;
}

/** A job that an event started: a push of merges, a merged pull request, or a dispatch. */
export interface HistoryJob {
  event: 'push' | 'merged' | 'dispatch';
  sha: string;
  before: string;
  pull: number;
}

/** The truth about a pull request, by the order in which things happened. */
interface Truth {
  pull: Pull;
  /** The place of its last push or change of the base in the true order. */
  pushedAt: number;
  label: { by: string; at: number } | undefined;
  /** The head that a writer approved last. */
  reviewed: string | undefined;
  marks: Mark[];
  isHonest: boolean;
}

/** A change of one file: content is the set of the marks that changes left. */
interface Mark {
  path: string;
  id: string;
  isRemoved: boolean;
}

export const LABEL = 'approved';
export const INTENT = 'chatops/intents/web.yaml';
export const FOLDER = 'stacks/web/';
const PATHS = [INTENT, `${FOLDER}compose.yaml`, `${FOLDER}web.env`, 'README.md', 'stacks/other/compose.yaml'];
const START = Date.parse('2026-11-20T08:00:00Z');

/**
 * A repository whose history is made step by step. It gives GitHub's double what GitHub would show, and keeps the true order
 * for itself: an author chooses the dates of commits, the clocks of GitHub's servers differ by two seconds.
 */
export class History {
  readonly github = new GitHubDouble('org/homelab');
  readonly jobs: HistoryJob[] = [];
  /** The authors of the commits of the branch: their approval, by the truth. */
  readonly #authors = new Map<string, { isApproved: boolean; isHonest: boolean }>();
  readonly #open: Truth[] = [];
  readonly #merged: Truth[] = [];
  /** The marks of each file at each commit of the branch. */
  readonly #trees = new Map<string, Map<string, Set<string>>>();
  #step = 0;
  #order = 0;
  #count = 0;
  #tip: string;

  constructor() {
    this.#tip = this.#sha();
    this.github.commit(this.#tip, []);
    this.github.permissions.set('stranger', { permission: 'read', role_name: 'read' });
    this.#trees.set(this.#tip, new Map(PATHS.map(path => [path, new Set()])));
    this.github.diff = (before, after) => PATHS.filter(path => !same(this.#at(before, path), this.#at(after, path)));
  }

  get tip(): string {
    return this.#tip;
  }

  /** Numbers of merged pull requests. */
  get mergedPulls(): number[] {
    return this.#merged.map(({ pull }) => pull.number);
  }

  happen({ kind, a, b }: Happening): void {
    this.#step++;
    const open = pick(this.#open, a);
    switch (kind) {
      case 'open':
        this.#openPull(a, b, false);
        break;
      case 'push':
      case 'force':
        if (open) this.#push(open, b, kind === 'force');
        break;
      case 'label':
        if (!open) break;
        this.#label(open, b % 5 === 0 ? 'stranger' : 'octocat');
        // A push in the second after the label.
        if (b % 3 === 1) this.#push(open, b, false, 5);
        break;
      case 'unlabel':
        if (!open) break;
        open.label = undefined;
        open.pull.timeline.push(unlabeled(LABEL, 'octocat', this.#time()));
        break;
      case 'base':
        if (!open) break;
        open.pushedAt = ++this.#order;
        open.isHonest = false;
        open.pull.timeline.push({
          event: b % 2 ? 'base_ref_changed' : 'automatic_base_change_succeeded',
          actor: { login: 'octocat' },
          created_at: this.#time(),
        });
        break;
      case 'review':
        if (open) this.#review(open, b % 4 === 0 ? 'stranger' : 'octocat');
        break;
      case 'merge':
        if (open) this.#merge([open], b);
        break;
      case 'queue':
        if (this.#open.length > 1) this.#merge(this.#open.slice(0, 2), b);
        break;
      case 'direct':
        this.#direct(a);
        break;
      case 'honest':
        this.#honest(a, b);
        break;
      case 'revert':
        this.#revert(a);
        break;
      case 'lag':
        this.github.activityLag = a % 4;
        this.github.timelineLag = b % 4;
        this.github.lag = a % 3;
        break;
      case 'fork-gone': {
        const fork = this.#merged.find(({ pull }) => pull.from !== null && pull.from !== this.github.repository);
        if (fork) fork.pull.from = null;
        break;
      }
    }
  }

  /** Returns true if `sha` is `base` or descends from it on the branch. */
  descends(sha: string, base: string): boolean {
    for (let at: string | undefined = sha; at; at = this.github.commits.get(at)?.parents[0])
      if (at === base) return true;
    return false;
  }

  /** Returns the authors of what differs between two commits in the paths of the deployment. */
  changes(base: string, sha: string): { isApproved: boolean; isHonest: boolean }[] {
    return PATHS.filter(path => path === INTENT || path.startsWith(FOLDER)).flatMap(path => {
      const [before, after] = [this.#at(base, path), this.#at(sha, path)];
      const changed = [...new Set([...before, ...after])].filter(mark => before.has(mark) !== after.has(mark));
      return changed.flatMap(mark => {
        return this.#authors.get(this.#lastChange({ path, id: mark, isRemoved: !after.has(mark) }, sha)) ?? [];
      });
    });
  }

  /** Returns the authors of all commits of the branch after one, up to another. */
  authorsBetween(base: string, sha: string): { isApproved: boolean; isHonest: boolean }[] {
    const found: { isApproved: boolean; isHonest: boolean }[] = [];
    for (let at: string | undefined = sha; at && at !== base; at = this.github.commits.get(at)?.parents[0]) {
      const author = this.#authors.get(at);
      if (author) found.push(author);
    }
    return found;
  }

  /** Returns the last commit of the branch up to `sha` that added or removed a mark. */
  #lastChange({ path, id, isRemoved }: Mark, sha: string): string {
    for (let at: string | undefined = sha; at; ) {
      const parent: string | undefined = this.github.commits.get(at)?.parents[0];
      const [now, before] = [this.#at(at, path).has(id), parent ? this.#at(parent, path).has(id) : false];
      if (now !== before && now === !isRemoved) return at;
      at = parent;
    }
    return '';
  }

  #openPull(a: number, b: number, isHonest: boolean): Truth {
    const number = ++this.#count;
    const isFork = b % 4 === 0;
    const pull = this.github.pull({
      ...{ number, mergeSha: '', merged: false, timeline: [], pushes: [], files: [] },
      headSha: this.#sha(),
      from: isFork ? 'stranger/homelab' : this.github.repository,
    });
    const truth: Truth = { pull, pushedAt: 0, label: undefined, reviewed: undefined, marks: [], isHonest };
    this.#open.push(truth);
    this.#push(truth, isHonest ? a * 4 + 3 : a, false);
    return truth;
  }

  /** A push brings one commit, whose date its author chose: true, hours ago, or in the future. */
  #push(truth: Truth, choice: number, isForced: boolean, seconds = 0): void {
    const { pull } = truth;
    pull.headSha = this.#sha();
    if (isForced) {
      truth.marks = [];
      pull.timeline.push(forcePushed('octocat', this.#time()));
    }
    const path = PATHS[choice % PATHS.length] as string;
    truth.marks.push({ path, id: `${pull.number}-${this.#step}-${pull.headSha.slice(0, 6)}`, isRemoved: false });
    pull.files = [...new Set(truth.marks.map(mark => mark.path))];
    truth.pushedAt = ++this.#order;
    const dated = [this.#time(), this.#time(-5 * 3600), this.#time(365 * 86_400), this.#time()][choice % 4] as string;
    pull.timeline.push({ event: 'committed', sha: pull.headSha, committer: { date: dated } });
    // The servers' clocks differ.
    const timestamp = this.#time(seconds + (choice % 5) - 2);
    pull.pushes.push({ after: pull.headSha, timestamp, activity_type: isForced ? 'force_push' : 'push' });
  }

  #label(truth: Truth, by: string): void {
    truth.label = { by, at: ++this.#order };
    truth.pull.timeline.push(labeled(LABEL, by, this.#time(4)));
  }

  #review(truth: Truth, by: string): void {
    const { headSha, reviews } = truth.pull;
    reviews.push({ state: 'APPROVED', user: { login: by }, commit_id: headSha, submitted_at: this.#time(4) });
    if (by === 'octocat') truth.reviewed = headSha;
  }

  #merge(truths: Truth[], choice: number): void {
    const before = this.#tip;
    const kind = (['squash', 'merge', 'rebase'] as const)[choice % 3];
    for (const truth of truths) {
      const { pull, marks } = truth;
      const parts = kind === 'rebase' ? marks.map(mark => [mark]) : [marks];
      const commits = parts.map(part =>
        this.#commit(part, kind === 'merge' ? [this.#branchTip(pull)] : [], this.#judge(truth)),
      );
      pull.merged = true;
      pull.mergedAt = this.#time(8);
      pull.mergeSha = commits.at(-1) ?? this.#tip;
      pull.commits = commits;
      pull.timeline.push(merged('octocat', pull.mergedAt));
      // The branch is deleted, or used again.
      if (choice % 2)
        pull.pushes.push({ after: '0'.repeat(40), timestamp: this.#time(9), activity_type: 'branch_deletion' });
      else if (choice % 5 === 0)
        pull.pushes.push({ after: this.#sha(), timestamp: this.#time(9), activity_type: 'push' });
      this.#open.splice(this.#open.indexOf(truth), 1);
      this.#merged.push(truth);
    }
    const [only] = truths.length === 1 ? truths : [];
    const isClosed = only && choice % 7 === 0;
    const event = isClosed ? 'merged' : 'push';
    this.jobs.push({ event, sha: this.#tip, before, pull: only?.pull.number ?? 0 });
  }

  /** The head's commit, which a merge commit brings along. */
  #branchTip({ headSha }: Pull): string {
    this.github.commits.set(headSha, { parents: [this.#tip], message: 'on a branch', files: [] });
    return headSha;
  }

  #judge({ pull, label, pushedAt, reviewed, isHonest }: Truth): { isApproved: boolean; isHonest: boolean } {
    const isByWriter = label?.by === 'octocat';
    const isApproved = isByWriter && (label.at > pushedAt || reviewed === pull.headSha);
    return { isApproved, isHonest: isHonest && isApproved };
  }

  #commit(marks: readonly Mark[], more: string[], author: { isApproved: boolean; isHonest: boolean }): string {
    const tree = new Map([...(this.#trees.get(this.#tip) ?? [])].map(([path, set]) => [path, new Set(set)]));
    for (const { path, id, isRemoved } of marks) {
      if (isRemoved) tree.get(path)?.delete(id);
      else tree.get(path)?.add(id);
    }
    const sha = this.#sha();
    // Each commit is the newest one of the double, which is the tip of the branch.
    this.github.commits.set(sha, { parents: [this.#tip, ...more], message: 'a change', files: [] });
    this.#trees.set(sha, tree);
    this.#authors.set(sha, author);
    this.#tip = sha;
    this.github.tip = sha;
    return sha;
  }

  #direct(a: number): void {
    const before = this.#tip;
    const mark = { path: PATHS[a % PATHS.length] as string, id: `direct-${this.#step}`, isRemoved: false };
    this.#commit([mark], [], { isApproved: false, isHonest: false });
    this.jobs.push({ event: 'push', sha: this.#tip, before, pull: 0 });
  }

  /** A pull request as most are: pushed, labelled, reviewed sometimes, merged. */
  #honest(a: number, b: number): void {
    const truth = this.#openPull(a, b % 400 === 0 ? 0 : 1, true);
    this.#step++;
    this.#label(truth, 'octocat');
    if (b % 3 === 0) this.#review(truth, 'octocat');
    this.#step++;
    this.#merge([truth], b);
  }

  /** A labelled pull request that takes the last commit back. */
  #revert(b: number): void {
    const parent = this.github.commits.get(this.#tip)?.parents[0];
    if (parent === undefined) return;
    const marks = PATHS.flatMap(path => {
      const [before, after] = [this.#at(parent, path), this.#at(this.#tip, path)];
      return [
        ...[...after].filter(id => !before.has(id)).map(id => ({ path, id, isRemoved: true })),
        ...[...before].filter(id => !after.has(id)).map(id => ({ path, id, isRemoved: false })),
      ];
    });
    const truth = this.#openPull(3, 1, true);
    truth.marks = marks;
    truth.pull.files = [...new Set(marks.map(({ path }) => path))];
    this.#step++;
    this.#label(truth, 'octocat');
    this.#step++;
    this.#merge([truth], b * 3);
  }

  #at(sha: string, path: string): ReadonlySet<string> {
    return this.#trees.get(sha)?.get(path) ?? new Set();
  }

  /** The time of the present step, a minute after the one before. */
  #time(seconds = 0): string {
    return new Date(START + (this.#step * 60 + seconds) * 1000).toISOString().replace('.000', '');
  }

  #sha(): string {
    return (++this.#count).toString(16).padStart(40, 'c');
  }
}

function pick<T>(all: readonly T[], choice: number): T | undefined {
  return all[choice % Math.max(1, all.length)];
}

function same(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return one.size === other.size && [...one].every(mark => other.has(mark));
}
