import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Milliseconds } from '../plan/plan.ts';
import { killGroup } from './cgroup.ts';
import { readJson, writeDurably } from './durable-files.ts';
import { type Exit, type Identity, identify, isAlive, livingWith, startKeeper, stopGroup } from './process.ts';

/** What a keeper is told to start. Lies in the run's folder before it is told: without it nothing was started. */
export interface Order {
  argv: [string, ...string[]];
  cwd: string | null;
  env: Record<string, string>;
  /** Absolute paths. Output is appended to `log`; standard output goes to `stdoutTo` where that is named. */
  log: string;
  stdoutTo: string | null;
  /** Absent: nothing to read. */
  stdinFrom?: string | null;
  /** Who was told, and when (ISO 8601, the host's clock). */
  keeper: Identity | null;
  at: string;
}

/** A line of a keeper's input. Secrets go this way only, into the environment of that process. */
export interface OrderLine {
  base: string;
  secrets: Record<string, string>;
}

/** A process that was ordered: by this agent or by an earlier one. */
export interface Kept {
  /** Undefined while it is not known, or where the program could not be started. */
  pid(): number | undefined;
  order: Order;
  /** When the process itself has ended; a grandchild that keeps its output open does not delay it. */
  exited: Promise<Exit>;
  /** TERM to the process group, then KILL after `grace`. Returns when the process has ended. */
  stop(grace: Milliseconds): Promise<Exit>;
}

const POLL_MS = 50;

/** A line in the environment of a step's processes, by which they are found when nobody wrote down their pid. */
export const MARK = 'CHATOPS_STEP';

/** The files of one order, beside each other in the run's folder. */
export const filesOf = (base: string) => ({ order: `${base}.order`, pid: `${base}.pid`, exit: `${base}.exit` });

/**
 * The agent's side of a run's keeper: the process that starts the run's processes, outlives the agent, and writes down
 * how each ended. A keeper that died is replaced by another.
 */
export class Keeper {
  readonly #argv: readonly [string, ...string[]];
  #running: ReturnType<typeof startKeeper> | undefined;
  readonly #told = new Map<string, (exit: Exit) => void>();

  /** `argv` starts a keeper; see cli/keeper.ts. It starts at once, so that the first order need not wait for it. */
  constructor(argv: readonly [string, ...string[]]) {
    this.#argv = argv;
    this.#start();
  }

  /** Writes the order down and gives it. `base` is the path of the order's files without their endings. */
  async start(base: string, order: Omit<Order, 'keeper' | 'at'>, secrets: Record<string, string> = {}): Promise<Kept> {
    const keeper = this.#running ?? this.#start();
    const written: Order = { ...order, keeper: identify(keeper.pid) ?? null, at: new Date().toISOString() };
    await writeDurably(filesOf(base).order, JSON.stringify(written));
    const told = new Promise<Exit>(done => this.#told.set(base, done));
    keeper.input.write(`${JSON.stringify({ base, secrets } satisfies OrderLine)}\n`);
    return this.#watch(base, written, Promise.race([told, keeper.gone.then(() => lookOut(base, written))]));
  }

  /** The process of an order that an earlier agent gave. */
  find(base: string): Kept {
    const order = JSON.parse(readFileSync(filesOf(base).order, 'utf8')) as Order;
    return this.#watch(base, order, lookOut(base, order));
  }

  /** No more orders. The keeper ends when its last process has. */
  end(): void {
    this.#running?.input.end();
    this.#running = undefined;
  }

  #start(): ReturnType<typeof startKeeper> {
    const running = startKeeper(this.#argv);
    this.#running = running;
    createInterface(running.output).on('line', line => {
      const { base, exit } = JSON.parse(line) as { base: string; exit: Exit };
      this.#told.get(base)?.(exit);
      this.#told.delete(base);
    });
    void running.gone.then(() => {
      if (this.#running === running) this.#running = undefined;
    });
    return running;
  }

  #watch(base: string, order: Order, exited: Promise<Exit>): Kept {
    const found = () => readJson<Identity & { cgroup?: string }>(filesOf(base).pid);
    const pid = () => found()?.pid;
    let ended = false;
    void exited.then(() => {
      ended = true;
    });
    return {
      pid,
      order,
      exited,
      async stop(grace) {
        // Ordered, and not started yet: there is nothing to stop until it is.
        while (pid() === undefined && !ended) await sleep(POLL_MS);
        const group = pid();
        if (group !== undefined) await stopGroup(group, grace);
        // What it had started elsewhere (in a container) does not end with it.
        for (const pid of livingWith(markOf(base))) await stopGroup(pid, grace, 'alone');
        // Nor does what has left its group and forgotten its mark.
        const cgroup = found()?.cgroup;
        if (cgroup !== undefined) await killGroup(cgroup);
        return exited;
      },
    };
  }
}

/** Waits without a keeper's word: until the exit is written down, or nobody is left who could write or do anything. */
async function lookOut(base: string, order: Order): Promise<Exit> {
  const files = filesOf(base);
  for (;;) {
    const mayBeAlive =
      (order.keeper !== null && isAlive(order.keeper)) || isOneAlive(files.pid) || livingWith(markOf(base)).length > 0;
    // Read after looking: whoever was alive a moment ago may have written meanwhile.
    const exit = readJson<Exit>(files.exit);
    if (exit) return exit;
    if (!mayBeAlive) return { code: null, signal: null, unknown: true };
    await sleep(POLL_MS);
  }
}

function isOneAlive(pidFile: string): boolean {
  const identity = readJson<Identity>(pidFile);
  return identity !== undefined && isAlive(identity);
}

export function markOf(base: string): string {
  return `${MARK}=${base}`;
}

/** How many orders of a step lie in the run's folder: `<step>-1`, `<step>-2`, … */
export function countOrders(step: string): number {
  let count = 0;
  while (existsSync(filesOf(`${step}-${count + 1}`).order)) count++;
  return count;
}
