import { retryUntilStored } from '../system/retry-storage.ts';

/** The agent stops: the run stays as it is, and the next agent resumes it. */
export class Detached extends Error {}

/** Lets a stopping agent leave a run: everything that the run waits for then throws {@link Detached}. */
export class Detachment {
  readonly #run: string;
  readonly #rejects = new Set<(reason: Detached) => void>();
  #isDetached = false;

  constructor(run: string) {
    this.#run = run;
  }

  detach(): void {
    this.#isDetached = true;
    for (const reject of this.#rejects) reject(new Detached());
  }

  /** Waits for `promise`. Throws {@link Detached} as soon as the agent stops. */
  until<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#isDetached) return reject(new Detached());
      this.#rejects.add(reject);
      promise.then(resolve, reject).finally(() => this.#rejects.delete(reject));
    });
  }

  /** Repeats `work` while the disk is full or broken. Throws {@link Detached} as soon as the agent stops. */
  retryUntilStored<T>(work: () => T): Promise<T> {
    return retryUntilStored(this.#run, work, pause => this.until(pause));
  }
}
