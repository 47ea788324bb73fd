import { type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Milliseconds } from '../plan/plan.ts';
import { CGROUP_VARIABLE } from './cgroup.ts';

/**
 * The end of a process: `code` or `signal`, `missing` if the program could not be started, `refused` if a path could not be
 * opened for it, `exceeded` if its output was too large, `unknown` if its supervisor died.
 */
export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  missing?: string;
  refused?: { code: string; message: string; remedy: string };
  exceeded?: 'size' | 'free';
  unknown?: true;
}

/** Names a process for good: a pid is reused, a pid with its start time (ticks since boot) is not. */
export interface ProcessIdentity {
  pid: number;
  started: string;
}

export interface ProcessOptions {
  cwd?: string | undefined;
  env: Record<string, string>;
  /** File descriptors, never pipes: a reader cannot block or end the process. */
  stdin: number | 'ignore';
  stdout: number;
  stderr: number;
  /** More descriptors: the process has them as 3, 4 … */
  more?: number[];
}

/** Starts a process. Only this function starts processes that change the host. `argv` goes to the kernel as it is. */
export function startProcess(
  argv: readonly [string, ...string[]],
  options: ProcessOptions,
): { pid: number | undefined; exited: Promise<ProcessExit> } {
  const child = spawn(argv[0], argv.slice(1), {
    ...DETACHED,
    env: options.env,
    stdio: [options.stdin, options.stdout, options.stderr, ...(options.more ?? [])],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const exited = new Promise<ProcessExit>(resolve => {
    // 'exit', not 'close': 'close' waits for every process that holds the output.
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', error => resolve({ code: null, signal: null, missing: error.message }));
  });
  return { pid: child.pid, exited };
}

/** Starts the supervisor of a run: a process that outlives the agent, with a pipe in and a pipe out. */
export function startSupervisor(argv: readonly [string, ...string[]]): {
  pid: number | undefined;
  input: Writable;
  output: Readable;
  gone: Promise<unknown>;
} {
  const child = spawn(argv[0], argv.slice(1), {
    ...DETACHED,
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '/',
      ...Object.fromEntries(
        INHERITED.flatMap(name => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
      ),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const gone = new Promise(resolve => {
    child.once('exit', resolve);
    child.once('error', resolve);
  });
  if (!child.stdin || !child.stdout) throw new Error('The supervisor has no pipes');
  // `gone` reports a supervisor that died.
  child.stdin.on('error', () => undefined);
  return { pid: child.pid, input: child.stdin, output: child.stdout, gone };
}

/** Variables of the agent that its supervisors get too: it starts one for each run, and a cache makes that cheaper. */
const INHERITED = [CGROUP_VARIABLE, 'NODE_COMPILE_CACHE'];

/** A process group of its own: it can be stopped as a whole, and the agent's signals do not reach it. No shell. */
const DETACHED = { shell: false, detached: true } as const satisfies SpawnOptions;

/** Returns the identity of the process with that pid; undefined if it has ended (a zombie has). */
export function readIdentity(pid: number | undefined): ProcessIdentity | undefined {
  const fields = pid === undefined ? undefined : readStat(pid);
  return fields && pid !== undefined && fields[0] !== 'Z' ? { pid, started: fields[19] ?? '' } : undefined;
}

export function isAlive({ pid, started }: ProcessIdentity): boolean {
  return readIdentity(pid)?.started === started;
}

/** Returns the living processes that were started with that line in their environment. */
export function findProcessesWith(line: string): number[] {
  return allPids().filter(pid => {
    if (!readIdentity(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(line);
    } catch {
      return false;
    }
  });
}

/** Returns the bytes read and written and the CPU time used by a process group: a number that grows while it works. */
export function measureProgress(group: number): number {
  let sum = 0;
  for (const pid of allPids()) {
    const fields = readStat(pid);
    if (!fields || Number(fields[2]) !== group) continue;
    sum += Number(fields[11]) + Number(fields[12]);
    try {
      for (const [, count] of readFileSync(`/proc/${pid}/io`, 'utf8').matchAll(/^[rw]char: (\d+)$/gm))
        sum += Number(count);
    } catch {
      // It ended, or belongs to another user.
    }
  }
  return sum;
}

/** Sends TERM to the process group or process, and KILL after `grace`. Returns when none of its processes is left. */
export async function stopGroup(id: number, grace: Milliseconds, scope: 'group' | 'process' = 'group'): Promise<void> {
  const isRunning = () => (scope === 'group' ? isGroupAlive(id) : readIdentity(id) !== undefined);
  const target = scope === 'group' ? -id : id;
  const deadline = performance.now() + grace;
  sendSignal(target, 'SIGTERM');
  while (isRunning()) {
    if (performance.now() >= deadline) sendSignal(target, 'SIGKILL');
    await sleep(20);
  }
}

function isGroupAlive(group: number): boolean {
  return allPids().some(pid => {
    const fields = readStat(pid);
    return fields !== undefined && fields[0] !== 'Z' && Number(fields[2]) === group;
  });
}

function sendSignal(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function allPids(): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number);
}

/** Returns the fields of /proc/PID/stat from the third (the state) on: the name before them may contain anything. */
function readStat(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** Returns the environment of every child process. It inherits nothing else from the agent. */
export function createCleanEnvironment(docker: {
  socket: string;
  config_dir?: string | undefined;
}): Record<string, string> {
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: process.env.HOME ?? '/root',
    LANG: 'C.UTF-8',
    DOCKER_HOST: `unix://${docker.socket}`,
    ...(docker.config_dir === undefined ? {} : { DOCKER_CONFIG: docker.config_dir }),
  };
}
