import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Milliseconds } from '../plan/plan.ts';
import { killCgroup } from './cgroup.ts';
import { readJson, writeDurably } from './durable-files.ts';
import {
  findProcessesWith,
  identify,
  isAlive,
  type ProcessExit,
  type ProcessIdentity,
  startSupervisor,
  stopGroup,
} from './process.ts';

/** What a keeper is told to start. Lies in the run's folder before it is told: without it nothing was started. */
export interface ProcessOrder {
  argv: [string, ...string[]];
  cwd: string | null;
  env: Record<string, string>;
  /** Absolute paths. Output is appended to `log`; standard output goes to `stdoutTo` where that is named. */
  log: string;
  stdoutTo: string | null;
  /** Absent: nothing to read. */
  stdinFrom?: string | null;
  /** Who was told, and when (ISO 8601, the host's clock). */
  keeper: ProcessIdentity | null;
  at: string;
}

/** A line of a keeper's input. Secrets go this way only, into the environment of that process. */
export interface OrderLine {
  base: string;
  secrets: Record<string, string>;
}

/** A process that was ordered: by this agent or by an earlier one. */
export interface SupervisedProcess {
  /** Undefined while it is not known, or where the program could not be started. */
  pid(): number | undefined;
  order: ProcessOrder;
  /** When the process itself has ended; a grandchild that keeps its output open does not delay it. */
  exited: Promise<ProcessExit>;
  /** TERM to the process group, then KILL after `grace`. Returns when the process has ended. */
  stop(grace: Milliseconds): Promise<ProcessExit>;
}

const POLL_MS = 50;

/** A line in the environment of a step's processes, by which they are found when nobody wrote down their pid. */
export const STEP_MARK = 'CHATOPS_STEP';

/** The files of one order, beside each other in the run's folder. */
export const orderFilesOf = (base: string) => ({ order: `${base}.order`, pid: `${base}.pid`, exit: `${base}.exit` });

/**
 * The agent's side of a run's keeper: the process that starts the run's processes, outlives the agent, and writes down
 * how each ended. A keeper that died is replaced by another.
 */
export class Supervisor {
  readonly #argv: readonly [string, ...string[]];
  #running: ReturnType<typeof startSupervisor> | undefined;
  readonly #told = new Map<string, (exit: ProcessExit) => void>();

  /** `argv` starts a keeper; see cli/keeper.ts. It starts at once, so that the first order need not wait for it. */
  constructor(argv: readonly [string, ...string[]]) {
    this.#argv = argv;
    this.#start();
  }

  /** Writes the order down and gives it. `base` is the path of the order's files without their endings. */
  async start(
    base: string,
    order: Omit<ProcessOrder, 'keeper' | 'at'>,
    secrets: Record<string, string> = {},
  ): Promise<SupervisedProcess> {
    const keeper = this.#running ?? this.#start();
    const written: ProcessOrder = { ...order, keeper: identify(keeper.pid) ?? null, at: new Date().toISOString() };
    await writeDurably(orderFilesOf(base).order, JSON.stringify(written));
    const told = new Promise<ProcessExit>(done => this.#told.set(base, done));
    keeper.input.write(`${JSON.stringify({ base, secrets } satisfies OrderLine)}\n`);
    return this.#watch(base, written, Promise.race([told, keeper.gone.then(() => waitForExit(base, written))]));
  }

  /** The process of an order that an earlier agent gave. */
  find(base: string): SupervisedProcess {
    const order = JSON.parse(readFileSync(orderFilesOf(base).order, 'utf8')) as ProcessOrder;
    return this.#watch(base, order, waitForExit(base, order));
  }

  /** No more orders. The keeper ends when its last process has. */
  end(): void {
    this.#running?.input.end();
    this.#running = undefined;
  }

  #start(): ReturnType<typeof startSupervisor> {
    const running = startSupervisor(this.#argv);
    this.#running = running;
    createInterface(running.output).on('line', line => {
      const { base, exit } = JSON.parse(line) as { base: string; exit: ProcessExit };
      this.#told.get(base)?.(exit);
      this.#told.delete(base);
    });
    void running.gone.then(() => {
      if (this.#running === running) this.#running = undefined;
    });
    return running;
  }

  #watch(base: string, order: ProcessOrder, exited: Promise<ProcessExit>): SupervisedProcess {
    const found = () => readJson<ProcessIdentity & { cgroup?: string }>(orderFilesOf(base).pid);
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
        for (const pid of findProcessesWith(stepMarkOf(base))) await stopGroup(pid, grace, 'alone');
        // Nor does what has left its group and forgotten its mark.
        const cgroup = found()?.cgroup;
        if (cgroup !== undefined) await killCgroup(cgroup);
        return exited;
      },
    };
  }
}

/** Waits without a keeper's word: until the exit is written down, or nobody is left who could write or do anything. */
async function waitForExit(base: string, order: ProcessOrder): Promise<ProcessExit> {
  const files = orderFilesOf(base);
  for (;;) {
    const mayBeAlive =
      (order.keeper !== null && isAlive(order.keeper)) ||
      isOneAlive(files.pid) ||
      findProcessesWith(stepMarkOf(base)).length > 0;
    // Read after looking: whoever was alive a moment ago may have written meanwhile.
    const exit = readJson<ProcessExit>(files.exit);
    if (exit) return exit;
    if (!mayBeAlive) return { code: null, signal: null, unknown: true };
    await sleep(POLL_MS);
  }
}

function isOneAlive(pidFile: string): boolean {
  const identity = readJson<ProcessIdentity>(pidFile);
  return identity !== undefined && isAlive(identity);
}

export function stepMarkOf(base: string): string {
  return `${STEP_MARK}=${base}`;
}

/** How many orders of a step lie in the run's folder: `<step>-1`, `<step>-2`, … */
export function countOrders(step: string): number {
  let count = 0;
  while (existsSync(orderFilesOf(`${step}-${count + 1}`).order)) count++;
  return count;
}
