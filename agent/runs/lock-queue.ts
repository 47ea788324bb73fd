/**
 * Who holds what, in order of arrival. A run takes its place in the queue of each of its subjects at once, so two runs
 * can never wait for each other. A limit holds how many go on side by side.
 */
export class LockQueue {
  readonly #queues = new Map<string, string[]>();
  readonly #held = new Set<string>();
  readonly #waiting = new Map<string, { subjects: string[]; go: () => void }>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many wait for their turn. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Resolves when it is the run's turn. `blockedBy` says who is before it right now, if anyone. */
  take(
    run: string,
    subjects: string[],
  ): { turn: Promise<void>; blockedBy: { run: string; subject: string } | undefined } {
    for (const subject of subjects) this.#queues.set(subject, [...(this.#queues.get(subject) ?? []), run]);
    const blockedBy = this.#blocker(run, subjects);
    const turn = new Promise<void>(go => this.#waiting.set(run, { subjects, go }));
    this.#advance();
    return { turn, blockedBy };
  }

  /** Gives back what the run holds, or its place in the queues. */
  release(run: string, subjects: string[]): void {
    for (const subject of subjects) {
      const rest = (this.#queues.get(subject) ?? []).filter(other => other !== run);
      if (rest.length > 0) this.#queues.set(subject, rest);
      else this.#queues.delete(subject);
    }
    this.#held.delete(run);
    this.#waiting.delete(run);
    this.#advance();
  }

  #blocker(run: string, subjects: string[]): { run: string; subject: string } | undefined {
    for (const subject of subjects) {
      const queue = this.#queues.get(subject) ?? [];
      const before = queue[queue.indexOf(run) - 1];
      if (before !== undefined) return { run: before, subject };
    }
    if (this.#held.size >= this.#limit)
      return { run: [...this.#held][0] ?? '', subject: 'a free place (limits.concurrent_runs)' };
    return undefined;
  }

  #advance(): void {
    for (const [run, { subjects, go }] of this.#waiting) {
      if (this.#held.size >= this.#limit) return;
      if (subjects.some(subject => this.#queues.get(subject)?.[0] !== run)) continue;
      this.#waiting.delete(run);
      this.#held.add(run);
      go();
    }
  }
}
