import { gatherApproval } from '../../action/approval.ts';
import type { HostDocument } from '../../action/coverage.ts';
import type { Trigger } from '../../action/trigger.ts';
import { GitHubReader } from '../../protocol/evidence/reader.ts';
import { Refused } from '../../protocol/refusal.ts';
import { FOLDER, type Happening, type History, type HistoryJob, INTENT, LABEL } from './history.ts';

/** The result of a job, next to what the true order of the history says about it. */
export interface Played {
  code: string;
  /** True if everything that the job ships was approved, and nothing newer was deployed. */
  mayRun: boolean;
  /** True if everything since the last deployment was approved in the usual way, so that a refusal would be a nuisance. */
  isHonest: boolean;
  why: string;
}

/** Runs the jobs of a history against a host that remembers its last deployment. */
export class HistoryPlayer {
  readonly #history: History;
  readonly #reader: GitHubReader;
  /** The next job that did not run yet. */
  #next = 0;
  #deployed: string | undefined;

  constructor(history: History) {
    const { github } = history;
    this.#history = history;
    this.#reader = new GitHubReader({
      repository: github.repository,
      unreadable: (what, why) => new Refused({ code: 'github-unreadable', message: `${what}: ${why}`, remedy: '' }),
      async get(path, what, absent = []) {
        const answer = github.answer(new URL(path, 'http://github.test'));
        if (answer.status === 200 || absent.includes(answer.status)) return answer;
        throw new Refused({ code: 'github-unreadable', message: `${what}: ${answer.status}`, remedy: '' });
      },
    });
  }

  /** Runs a job if one is due: most often the next one, sometimes an earlier one again. */
  async play({ kind, a, b }: Happening): Promise<Played | undefined> {
    const { jobs, mergedPulls, tip } = this.#history;
    if (kind === 'dispatch') {
      const pull = mergedPulls[a % Math.max(1, mergedPulls.length)];
      const sha = b % 3 === 0 ? (jobs[b % Math.max(1, jobs.length)]?.sha ?? tip) : tip;
      return pull === undefined ? undefined : this.#run({ event: 'dispatch', sha, before: '', pull }, b);
    }
    if (kind !== 'job' && kind !== 'honest') return undefined;
    const isRerun = kind === 'job' && b % 4 === 0;
    const job = isRerun ? jobs[a % Math.max(1, jobs.length)] : jobs[this.#next];
    if (!isRerun && job) this.#next++;
    return job && this.#run(job, b);
  }

  async #run(job: HistoryJob, choice: number): Promise<Played> {
    const last = this.#deployed;
    const played = this.#judge(job, last);
    try {
      await gatherApproval(triggerOf(job), this.#reader, {
        ...{ paths: [INTENT, FOLDER], shared: [], wanted: [LABEL], deploys: true },
        pullRequest: job.event === 'dispatch' ? job.pull : undefined,
        deployed: async () => [documentOf(last)],
        say: () => undefined,
        wait: async () => undefined,
      });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { ...played, code: error.code };
    }
    // One run in eight fails on the host, which then has deployed nothing.
    if (choice % 8 !== 0) this.#deployed = job.sha;
    return { ...played, code: 'admitted' };
  }

  /** Decides by the true order: a first deployment has the content before its event as the baseline. */
  #judge(job: HistoryJob, last: string | undefined): Omit<Played, 'code'> {
    const history = this.#history;
    const base = last ?? (job.event === 'dispatch' ? job.sha : job.before);
    const isNewer = history.descends(job.sha, base);
    const changes = history.changes(base, job.sha);
    const isApproved = changes.every(({ isApproved: one }) => one);
    const all = [...history.authorsBetween(base, job.sha), ...history.authorsBetween(job.before, job.sha)];
    const isHonest = isNewer && job.event !== 'dispatch' && last !== undefined && all.every(one => one.isHonest);
    const why = `${job.event} of ${job.sha.slice(-6)} after ${base.slice(-6)}: ${isNewer ? 'not approved' : 'older'}`;
    return { mayRun: isNewer && isApproved, isHonest, why };
  }
}

function documentOf(last: string | undefined): HostDocument {
  return {
    ...{ host: '', name: 'web', stack: 'web', files: [INTENT], paths: [INTENT, FOLDER] },
    since: last ?? null,
    isFirst: last === undefined,
  };
}

function triggerOf({ event, sha, before, pull }: HistoryJob): Trigger {
  const at = { sha, branch: 'main', origin: { sha } as Trigger['origin'] };
  switch (event) {
    case 'push':
      return { kind: 'push', before, ...at };
    case 'merged':
      return { kind: 'merged-pull-request', number: pull, ...at };
    case 'dispatch':
      return { kind: 'dispatch', ...at };
  }
}
