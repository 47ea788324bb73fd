import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { Failure } from '../plan/failure.ts';
import type { HostReader, ReadResult } from '../plan/plan.ts';
import { readRegular } from './safe-paths.ts';

const MAX_READ_BYTES = 4 * 1024 * 1024;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const PROGRAM_TIMEOUT_MS = 60_000;

/** The host reader of a dry run on another host: knows nothing, starts no process and opens no file. */
export const blindHostReader: HostReader = {
  list: async () => undefined,
  read: async () => undefined,
  ask: async () => undefined,
  render: async () => undefined,
  engine: async () => undefined,
};

/** Returns a reader of this host. `environment` is the environment of the programs that it runs. */
export function createHostReader(
  engine: { get(path: string): Promise<ReadResult<unknown>> },
  environment: Record<string, string>,
  render: HostReader['render'],
): HostReader {
  const cache = new Map<string, { at: number; answer: { code: number; stdout: string; stderr: string } }>();
  return {
    list: folder => absentAsNull(readdir(folder)),
    read: file => absentAsNull(readRegular(file, MAX_READ_BYTES).then(bytes => bytes.toString())),
    async ask(argv, options = {}) {
      const key = JSON.stringify([argv, options.cwd]);
      const found = cache.get(key);
      if (found && options.keepFor !== undefined && Date.now() - found.at <= options.keepFor) return found.answer;
      const answer = await runQuery(argv, options.cwd, environment);
      if (options.keepFor !== undefined && answer.code === 0) cache.set(key, { at: Date.now(), answer });
      return answer;
    },
    render,
    engine: path => engine.get(path),
  };
}

async function absentAsNull<T>(read: Promise<T>): Promise<ReadResult<T>> {
  try {
    return await read;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}

function runQuery(
  argv: [string, ...string[]],
  cwd: string | undefined,
  env: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    execFile(
      argv[0],
      argv.slice(1),
      { cwd, env, timeout: PROGRAM_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES, shell: false },
      (error, stdout, stderr) => {
        const code = error?.code;
        if (!error || typeof code === 'number')
          return resolve({ code: typeof code === 'number' ? code : 0, stdout, stderr });
        reject(
          new Failure(
            code === 'ENOENT' ? 'program-missing' : 'look-failed',
            `"${argv.join(' ')}" could not be run: ${error.message}`,
            code === 'ENOENT' ? `Install ${argv[0]} on the host.` : 'Run the command on the host to see why.',
          ),
        );
      },
    );
  });
}
