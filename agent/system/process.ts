import { type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Milliseconds } from '../plan/plan.ts';
import { CGROUP_VARIABLE } from './cgroup.ts';

/** How a process ended: `code` or `signal`; `missing` where the program is not there; `unknown` where nobody saw its end. */
export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  missing?: string;
  unknown?: true;
}

/** What names a process for good: pids are used again, a pid with its start time (ticks since boot) is not. */
export interface ProcessIdentity {
  pid: number;
  started: string;
}

export interface ProcessOptions {
  cwd?: string | undefined;
  env: Record<string, string>;
  /** File descriptors: a child never gets a pipe, so that no reader can block or end it. */
  stdin: number | 'ignore';
  stdout: number;
  stderr: number;
}

/** The only place that starts a process which changes something. `argv` goes to the kernel as it is. */
export function startProcess(
  argv: readonly [string, ...string[]],
  options: ProcessOptions,
): { pid: number | undefined; exited: Promise<ProcessExit> } {
  const child = spawn(argv[0], argv.slice(1), {
    ...DETACHED,
    env: options.env,
    stdio: [options.stdin, options.stdout, options.stderr],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const exited = new Promise<ProcessExit>(done => {
    // 'exit', never 'close': 'close' waits for everyone who holds the output.
    child.once('exit', (code, signal) => done({ code, signal }));
    child.once('error', error => done({ code: null, signal: null, missing: error.message }));
  });
  return { pid: child.pid, exited };
}

/** Starts the keeper of a run: a process of its own that outlives the agent, with a line in and a line out. */
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
      ...(process.env[CGROUP_VARIABLE] === undefined ? {} : { [CGROUP_VARIABLE]: process.env[CGROUP_VARIABLE] }),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const gone = new Promise(done => {
    child.once('exit', done);
    child.once('error', done);
  });
  if (!child.stdin || !child.stdout) throw new Error('The keeper has no pipes');
  // A keeper that is gone is seen by `gone`, not here.
  child.stdin.on('error', () => undefined);
  return { pid: child.pid, input: child.stdin, output: child.stdout, gone };
}

/** A group of its own: it can be stopped as a whole, and the agent's own signals don't reach it. No shell. */
const DETACHED = { shell: false, detached: true } as const satisfies SpawnOptions;

/** Who has that pid now; undefined where nobody lives under it (a zombie has ended). */
export function identify(pid: number | undefined): ProcessIdentity | undefined {
  const fields = pid === undefined ? undefined : statOf(pid);
  return fields && pid !== undefined && fields[0] !== 'Z' ? { pid, started: fields[19] ?? '' } : undefined;
}

export function isAlive({ pid, started }: ProcessIdentity): boolean {
  return identify(pid)?.started === started;
}

/** Living processes that were started with that line in their environment. */
export function findProcessesWith(line: string): number[] {
  return allPids().filter(pid => {
    if (!identify(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(line);
    } catch {
      return false;
    }
  });
}

/** Bytes that the group's processes have read and written and time that they have used: it grows while they get on. */
export function progressOf(group: number): number {
  let sum = 0;
  for (const pid of allPids()) {
    const fields = statOf(pid);
    if (!fields || Number(fields[2]) !== group) continue;
    sum += Number(fields[11]) + Number(fields[12]);
    try {
      for (const [, count] of readFileSync(`/proc/${pid}/io`, 'utf8').matchAll(/^[rw]char: (\d+)$/gm))
        sum += Number(count);
    } catch {
      // It ended, or is another user's.
    }
  }
  return sum;
}

/** TERM to the process group (or to that process alone), then KILL after `grace` to what is left. Returns when nobody is. */
export async function stopGroup(id: number, grace: Milliseconds, whom: 'group' | 'alone' = 'group'): Promise<void> {
  const isThere = () => (whom === 'group' ? isGroupAlive(id) : identify(id) !== undefined);
  const target = whom === 'group' ? -id : id;
  const deadline = performance.now() + grace;
  signalTo(target, 'SIGTERM');
  while (isThere()) {
    if (performance.now() >= deadline) signalTo(target, 'SIGKILL');
    await sleep(20);
  }
}

function isGroupAlive(group: number): boolean {
  return allPids().some(pid => {
    const fields = statOf(pid);
    return fields !== undefined && fields[0] !== 'Z' && Number(fields[2]) === group;
  });
}

function signalTo(target: number, signal: NodeJS.Signals): void {
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

/** Fields of /proc/PID/stat from the third (the state) on: the name before may hold anything. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** What every child gets, and nothing else of the agent's own environment. */
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
