/** The run and the subject for which another run waits. */
export interface Blocker {
  run: string;
  subject: string;
}

/**
 * Locks of runs on subjects (stacks, machines), first come, first served. A run joins the queues of all its subjects at once,
 * so two runs never wait for each other. At most `limit` runs hold locks at the same time.
 */
export class LockQueue {
  readonly #queues = new Map<string, string[]>();
  readonly #holders = new Set<string>();
  readonly #waiting = new Map<string, { subjects: string[]; resolve: () => void }>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Number of runs that wait for their turn. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Queues a run. `turn` resolves when it holds its locks; `blockedBy` is the run that is before it now. */
  take(run: string, subjects: string[]): { turn: Promise<void>; blockedBy: Blocker | undefined } {
    for (const subject of subjects) this.#queues.set(subject, [...(this.#queues.get(subject) ?? []), run]);
    const blockedBy = this.#findBlocker(run, subjects);
    const turn = new Promise<void>(resolve => this.#waiting.set(run, { subjects, resolve }));
    this.#advance();
    return { turn, blockedBy };
  }

  /** Releases the locks of a run, or takes it out of the queues. */
  release(run: string, subjects: string[]): void {
    for (const subject of subjects) {
      const rest = (this.#queues.get(subject) ?? []).filter(other => other !== run);
      if (rest.length > 0) this.#queues.set(subject, rest);
      else this.#queues.delete(subject);
    }
    this.#holders.delete(run);
    this.#waiting.delete(run);
    this.#advance();
  }

  #findBlocker(run: string, subjects: string[]): Blocker | undefined {
    for (const subject of subjects) {
      const queue = this.#queues.get(subject) ?? [];
      const before = queue[queue.indexOf(run) - 1];
      if (before !== undefined) return { run: before, subject };
    }
    if (this.#holders.size < this.#limit) return undefined;
    return { run: [...this.#holders][0] ?? '', subject: 'a slot of limits.concurrent_runs' };
  }

  #advance(): void {
    for (const [run, { subjects, resolve }] of this.#waiting) {
      if (this.#holders.size >= this.#limit) return;
      if (subjects.some(subject => this.#queues.get(subject)?.[0] !== run)) continue;
      this.#waiting.delete(run);
      this.#holders.add(run);
      resolve();
    }
  }
}
