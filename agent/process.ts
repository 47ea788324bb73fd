import { type SpawnOptions, spawn } from 'node:child_process';
import type { Milliseconds } from './plan.ts';

/** How a process ended: `code` or `signal`, or `missing` where the program is not there. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  missing?: string;
}

export interface Child {
  /** Undefined where the program could not be started. */
  pid: number | undefined;
  /** When the process itself has ended; a grandchild that keeps its output open does not delay it. */
  exited: Promise<Exit>;
  /** TERM to the process group, then KILL after `grace`. Returns when the process has ended. */
  stop(grace: Milliseconds): Promise<Exit>;
}

export interface StartOptions {
  cwd?: string | undefined;
  env: Record<string, string>;
  /** File descriptors: a child never gets a pipe, so that no reader can block or end it. */
  stdout: number;
  stderr: number;
}

/** The only place that starts a process which changes something. `argv` goes to the kernel as it is. */
export function startProcess(argv: readonly [string, ...string[]], options: StartOptions): Child {
  const spawning: SpawnOptions = {
    shell: false,
    // A group of its own: it can be stopped as a whole, and the agent's own signals don't reach it.
    detached: true,
    env: options.env,
    stdio: ['ignore', options.stdout, options.stderr],
  };
  if (options.cwd !== undefined) spawning.cwd = options.cwd;
  const child = spawn(argv[0], argv.slice(1), spawning);
  let ended = false;
  const exited = new Promise<Exit>(done => {
    // 'exit', never 'close': 'close' waits for everyone who holds the output.
    child.once('exit', (code, signal) => {
      ended = true;
      done({ code, signal });
    });
    child.once('error', error => {
      ended = true;
      done({ code: null, signal: null, missing: error.message });
    });
  });
  return {
    pid: child.pid,
    exited,
    async stop(grace) {
      if (ended || child.pid === undefined) return exited;
      signalGroup(child.pid, 'SIGTERM');
      const timer = setTimeout(() => !ended && child.pid !== undefined && signalGroup(child.pid, 'SIGKILL'), grace);
      const exit = await exited;
      clearTimeout(timer);
      return exit;
    },
  };
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** What every child gets, and nothing else of the agent's own environment. */
export function cleanEnvironment(docker: { socket: string; config_dir?: string | undefined }): Record<string, string> {
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: process.env.HOME ?? '/root',
    LANG: 'C.UTF-8',
    DOCKER_HOST: `unix://${docker.socket}`,
    ...(docker.config_dir === undefined ? {} : { DOCKER_CONFIG: docker.config_dir }),
  };
}
