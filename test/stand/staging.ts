import type { Entry, Pull } from '../doubles/github-events.ts';
import type { Finished, Job } from './runner.ts';
import { LABEL, type Merge, World } from './world.ts';

/** Returns an intent that requires the label. */
export const rolloutOf = (stack: string, more = '') =>
  `label_required: ${LABEL}\naction: rollout\nstack: ${stack}\n${more}`;

/** Returns `admitted` for a job that has a run, whatever the run does, and the code of the refusal for another one. */
export const codeOf = ({ outputs }: Finished) => (outputs['run-id'] ? 'admitted' : (outputs.reason ?? ''));

export interface Staged {
  timeline?: (head: string) => Entry[];
  /** To what GitHub knows of the pull request. */
  pull?: Partial<Pull>;
  /** Further lines of the intent. */
  intent?: string;
  /** To the job that the push starts. Called after the merge. */
  job?: (merge: Merge, name: string) => Partial<Job>;
  files?: Record<string, string>;
}

/** Stages cases: each merges a new intent for a stack of its own, whose rollout ends at once because it has no compose file. */
export class Staging {
  readonly world: World;
  #cases = 0;

  constructor(world = new World()) {
    this.world = world;
  }

  /** Returns a new name of a stack that exists on the host. */
  name(): string {
    const name = `staged-${++this.#cases}`;
    this.world.stack(name);
    return name;
  }

  /** Merges a pull request with the intent. */
  merge(name: string, { timeline, pull = {}, intent = '', files = {} }: Staged = {}): Merge {
    return this.world.merge({ [`chatops/intents/${name}.yaml`]: rolloutOf(name, intent), ...files }, timeline, pull);
  }

  /** Merges a pull request and runs its job. */
  run(staged: Staged = {}): Promise<Finished> {
    const name = this.name();
    const merge = this.merge(name, staged);
    return this.world.deploy(merge, name, staged.job?.(merge, name));
  }

  /** Runs the job of a push that begins at an earlier commit. */
  push(name: string, before: string, merge: Merge, changes: Partial<Job> = {}): Promise<Finished> {
    return this.world.deploy({ ...merge, before }, name, changes);
  }
}

/** Lets GitHub list a merge as the last of several commits of the branch, all of one pull request. */
export function asRebase({ github }: World, { before, sha, number }: Merge, count: number): void {
  const earlier = Array.from({ length: count - 1 }, (_, n) => `${n.toString(16).padStart(8, '0')}${sha.slice(8)}`);
  const commits = [...earlier, sha];
  for (const [index, commit] of commits.entries()) {
    github.commits.delete(commit);
    github.commit(commit, [commits[index - 1] ?? before]);
  }
  const pull = github.pulls.get(number);
  if (pull) pull.commits = commits;
}
