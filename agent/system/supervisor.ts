import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Milliseconds, OpenedPath } from '../plan/plan.ts';
import { killCgroup } from './cgroup.ts';
import { readJson, writeDurably } from './durable-files.ts';
import {
  findProcessesWith,
  isAlive,
  type ProcessExit,
  type ProcessIdentity,
  readIdentity,
  startSupervisor,
  stopGroup,
} from './process.ts';

/*
 * A supervisor is the process between the agent and a run's processes; containerd calls this a shim. It starts what it is
 * ordered to start, outlives the agent, and writes down how each process ended. The names `keeper`, CHATOPS_STEP, `.order`,
 * `.pid` and `.exit` are stored: an agent finds the runs of an older version by them.
 */

/** The order to start a process. Stored in the run's folder before the supervisor gets it: without it nothing started. */
export interface ProcessOrder {
  argv: [string, ...string[]];
  cwd: string | null;
  env: Record<string, string>;
  /** Absolute path that output is appended to. */
  log: string;
  /** Bytes of the log before its output. */
  from?: number;
  /** Absolute path that gets standard output in place of `log`. */
  stdoutTo: string | null;
  /** Absolute path; absent or null for no input. */
  stdinFrom?: string | null;
  /** Absent in orders of older agents. */
  opens?: OpenedPath[];
  /** The supervisor stops a process whose files exceed them. Absent in orders of older agents. */
  limits?: { log: number; stdout: { size: number } | { free: number } };
  /** The supervisor that got the order. */
  keeper: ProcessIdentity | null;
  /** ISO 8601, by the host's clock. */
  at: string;
}

/** A line of a supervisor's input. Secrets go this way only, into the environment of that process. */
export interface OrderLine {
  base: string;
  secrets: Record<string, string>;
}

/** A process that this agent or an earlier one ordered. */
export interface SupervisedProcess {
  /** Returns undefined until the process is started, and if the program could not be started. */
  pid(): number | undefined;
  order: ProcessOrder;
  /** Resolves when the process itself has ended; a grandchild that keeps its output open does not delay it. */
  exited: Promise<ProcessExit>;
  /** Sends TERM to the process group, and KILL after `grace`. Returns when the process has ended. */
  stop(grace: Milliseconds): Promise<ProcessExit>;
}

const POLL_MS = 50;

/** A variable in the environment of a step's processes, by which they are found if their pid was not written. */
export const STEP_MARK = 'CHATOPS_STEP';

/** Returns the files of one order in the run's folder. */
export const orderFilesOf = (base: string) => ({ order: `${base}.order`, pid: `${base}.pid`, exit: `${base}.exit` });

/** The agent's side of a run's supervisor. Replaces a supervisor that died. */
export class Supervisor {
  readonly #argv: readonly [string, ...string[]];
  #running: ReturnType<typeof startSupervisor> | undefined;
  readonly #waiters = new Map<string, (exit: ProcessExit) => void>();

  /** `argv` runs supervisor-process.ts. It starts at once, so that the first order does not wait for it. */
  constructor(argv: readonly [string, ...string[]]) {
    this.#argv = argv;
    this.#start();
  }

  /** Writes an order and sends it. `base` is the path of the order's files without their extensions. */
  async start(
    base: string,
    order: Omit<ProcessOrder, 'keeper' | 'at'>,
    secrets: Record<string, string> = {},
  ): Promise<SupervisedProcess> {
    const running = this.#running ?? this.#start();
    const keeper = readIdentity(running.pid) ?? null;
    const written: ProcessOrder = { ...order, keeper, at: new Date().toISOString() };
    await writeDurably(orderFilesOf(base).order, JSON.stringify(written));
    const reported = new Promise<ProcessExit>(resolve => this.#waiters.set(base, resolve));
    running.input.write(`${JSON.stringify({ base, secrets } satisfies OrderLine)}\n`);
    return this.#watch(base, written, Promise.race([reported, running.gone.then(() => waitForExit(base, written))]));
  }

  /** Returns the process of an order that an earlier agent gave. */
  find(base: string): SupervisedProcess {
    const order = JSON.parse(readFileSync(orderFilesOf(base).order, 'utf8')) as ProcessOrder;
    return this.#watch(base, order, waitForExit(base, order));
  }

  /** Ends the orders. The supervisor ends when its last process has. */
  end(): void {
    this.#running?.input.end();
    this.#running = undefined;
  }

  #start(): ReturnType<typeof startSupervisor> {
    const running = startSupervisor(this.#argv);
    this.#running = running;
    createInterface(running.output).on('line', line => {
      const { base, exit } = JSON.parse(line) as { base: string; exit: ProcessExit };
      this.#waiters.get(base)?.(exit);
      this.#waiters.delete(base);
    });
    void running.gone.then(() => {
      if (this.#running === running) this.#running = undefined;
    });
    return running;
  }

  #watch(base: string, order: ProcessOrder, exited: Promise<ProcessExit>): SupervisedProcess {
    const readPidFile = () => readJson<ProcessIdentity & { cgroup?: string }>(orderFilesOf(base).pid);
    const pid = () => readPidFile()?.pid;
    let hasEnded = false;
    void exited.then(() => {
      hasEnded = true;
    });
    return {
      pid,
      order,
      exited,
      async stop(grace) {
        // A process that is ordered but not started yet cannot be stopped.
        while (pid() === undefined && !hasEnded) await sleep(POLL_MS);
        const group = pid();
        if (group !== undefined) await stopGroup(group, grace);
        // Processes that it started elsewhere (in a container) do not end with the group.
        for (const marked of findProcessesWith(stepMarkOf(base))) await stopGroup(marked, grace, 'process');
        // Nor do processes that left the group and cleared their environment.
        const cgroup = readPidFile()?.cgroup;
        if (cgroup !== undefined) await killCgroup(cgroup);
        return exited;
      },
    };
  }
}

/** Waits, without a supervisor to ask, until the exit is written or no process is left that could write it. */
async function waitForExit(base: string, order: ProcessOrder): Promise<ProcessExit> {
  const files = orderFilesOf(base);
  for (;;) {
    const mayBeAlive =
      (order.keeper !== null && isAlive(order.keeper)) ||
      isWrittenAlive(files.pid) ||
      findProcessesWith(stepMarkOf(base)).length > 0;
    // Read after the look at processes: one that was alive then may have written it since.
    const exit = readJson<ProcessExit>(files.exit);
    if (exit) return exit;
    if (!mayBeAlive) return { code: null, signal: null, unknown: true };
    await sleep(POLL_MS);
  }
}

function isWrittenAlive(pidFile: string): boolean {
  const identity = readJson<ProcessIdentity>(pidFile);
  return identity !== undefined && isAlive(identity);
}

function stepMarkOf(base: string): string {
  return `${STEP_MARK}=${base}`;
}

/** Returns how many orders of a step are stored in the run's folder: `<step>-1`, `<step>-2`, … */
export function countOrders(step: string): number {
  let count = 0;
  while (existsSync(orderFilesOf(`${step}-${count + 1}`).order)) count++;
  return count;
}
