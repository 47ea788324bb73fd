import { readConfig } from './load.ts';
import type { Config } from './schema.ts';

/** Checks the next value, and may throw. Returns the function that switches to it, if there is anything to switch. */
export type Prepare<T> = (next: T) => (() => void) | undefined;

/** Holds a value that is read again while the agent runs. If one part of the agent can't use a new value, all keep the old one. */
export class Live<T extends object> {
  readonly #read: () => T;
  readonly #fixed: readonly (keyof T & string)[];
  readonly #prepare: Prepare<T>[] = [];
  #current: T;

  /** `fixed`: the keys that only a restart changes. */
  constructor(read: () => T, fixed: readonly (keyof T & string)[] = []) {
    this.#read = read;
    this.#fixed = fixed;
    this.#current = read();
  }

  get current(): T {
    return this.#current;
  }

  /** Registers a part of the agent that follows the value. Parts prepare and switch in the order of registration. */
  onChange(prepare: Prepare<T>): void {
    this.#prepare.push(prepare);
  }

  /** Reads the value again. Returns the fixed keys that differ. Throws the error of reading or of a part: then the old value stays. */
  reload(): string[] {
    const read = this.#read();
    const differing = this.#fixed.filter(key => JSON.stringify(read[key]) !== JSON.stringify(this.#current[key]));
    const next = { ...read };
    for (const key of this.#fixed) next[key] = this.#current[key];
    const switches = this.#prepare.map(prepare => prepare(next));
    this.#current = next;
    for (const switchOver of switches) switchOver?.();
    return differing;
  }
}

/** Reads agent.yaml. Sockets and folders stay as they were at the start. Throws {@link ConfigError}. */
export function createLiveConfig(file: string): Live<Config> {
  return new Live(() => readConfig(file), ['agent', 'listen', 'state_dir', 'docker', 'tls']);
}
