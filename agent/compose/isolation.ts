import { spawn } from 'node:child_process';
import { access, realpath } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { Failure } from '../plan/failure.ts';
import type { Milliseconds } from '../plan/plan.ts';

const TIMEOUT_MS: Milliseconds = 30_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** Address space. Go reserves far more than it uses. */
const MAX_MEMORY_KIB = 4 * 1024 * 1024;
/** Sets the limits and becomes its arguments. The second one holds even if the agent's thread is gone. */
const LIMITS = `ulimit -v ${MAX_MEMORY_KIB}; ulimit -t ${TIMEOUT_MS / 1000}; exec "$@"`;
const NOBODY = 65_534;
/** Folders in which docker looks for its plugins, in addition to its configuration's own. */
const PLUGIN_DIRS = [
  '/usr/local/lib/docker/cli-plugins',
  '/usr/local/libexec/docker/cli-plugins',
  '/usr/lib/docker/cli-plugins',
  '/usr/libexec/docker/cli-plugins',
];
const PROGRAM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The separation of a rendering from the host: by namespaces, by a user without rights, or by its input alone. */
export type Isolation = 'namespaces' | 'user' | 'input';

/**
 * Runs `docker compose` on copies in `root` (the only folder that it can write): no environment, no credentials, no engine;
 * where the kernel permits, also no network and no other files of the host than its programs. `configDir`: the folder with
 * docker's plugins, if it is not a usual one. Bounded in time, memory and
 * output. Throws {@link Failure} `compose-too-large`, `compose-slow`, `program-missing`.
 */
export async function runIsolated(
  args: string[],
  root: string,
  configDir: string | undefined,
  isolation: Isolation,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const plugin = await findPlugin(configDir);
  // The plugin answers as a program of its own, without docker and its configuration.
  const inner = [plugin, ...args];
  const isolated = isolation === 'namespaces' ? [...sandbox(root, plugin), ...inner] : inner;
  return run(['sh', '-c', LIMITS, 'sh', ...isolated], root, isolation);
}

/** Arguments of bubblewrap: new namespaces with the plugin and its libraries read-only, and the copies at their own path. */
function sandbox(root: string, plugin: string): string[] {
  return [
    'bwrap',
    '--unshare-all',
    '--die-with-parent',
    '--new-session',
    ...['--uid', String(NOBODY), '--gid', String(NOBODY)],
    ...['--cap-drop', 'ALL'],
    ...['lib', 'lib64'].flatMap(name => ['--ro-bind-try', `/usr/${name}`, `/usr/${name}`]),
    ...['lib', 'lib64'].flatMap(name => ['--symlink', `usr/${name}`, `/${name}`]),
    ...['--dev', '/dev', '--tmpfs', '/tmp'],
    ...['--ro-bind', plugin, plugin],
    ...['--bind', root, root, '--chdir', root],
    '--',
  ];
}

/** Finds the best isolation that works on this machine. */
export async function probeIsolation(): Promise<Isolation> {
  if (await findProgram('bwrap')) {
    const argv = [...sandbox('/usr/share', '/usr/bin/true'), '/usr/bin/true'].map(one =>
      one === '--bind' ? '--ro-bind' : one,
    );
    const { code } = await run(argv as [string, ...string[]], '/usr/share', 'namespaces').catch(() => ({ code: 1 }));
    if (code === 0) return 'namespaces';
  }
  return process.getuid?.() === 0 ? 'user' : 'input';
}

/** HOME of a rendering: it stands for each "~" in a path. No copy is in it, because a stack's folder is not called so. */
export function homeMark(root: string): string {
  return `${root}/~`;
}

async function findPlugin(configDir: string | undefined): Promise<string> {
  const dirs = [...(configDir === undefined ? [] : [join(configDir, 'cli-plugins')]), ...PLUGIN_DIRS];
  for (const dir of dirs) {
    const found = await realpath(join(dir, 'docker-compose')).catch(() => undefined);
    if (found !== undefined) return found;
  }
  throw new Failure(
    'program-missing',
    `Docker Compose is not in ${dirs.join(', ')}.`,
    'Install the package of the Docker Compose plugin on the host.',
  );
}

async function findProgram(name: string): Promise<boolean> {
  const found = await Promise.all(
    PROGRAM_PATH.split(delimiter).map(dir =>
      access(join(dir, name)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

function run(
  argv: [string, ...string[]],
  cwd: string,
  isolation: Isolation,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      env: {
        ...{ PATH: PROGRAM_PATH, HOME: homeMark(cwd), DOCKER_CONFIG: cwd, LANG: 'C.UTF-8' },
        // Never connects: "config" needs no engine.
        DOCKER_HOST: 'unix:///nonexistent',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      ...(isolation === 'user' ? { uid: NOBODY, gid: NOBODY } : {}),
    });
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let bytes = 0;
    let failure: Failure | undefined;
    const end = (found: Failure) => {
      failure ??= found;
      try {
        process.kill(-(child.pid ?? 0), 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    const timer = setTimeout(
      () =>
        end(
          new Failure(
            'compose-slow',
            `Compose did not render the config within ${TIMEOUT_MS / 1000} s.`,
            'Make the compose file smaller. Nothing was started.',
          ),
        ),
      TIMEOUT_MS,
    );
    for (const name of ['stdout', 'stderr'] as const)
      child[name].on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes <= MAX_OUTPUT_BYTES) output[name].push(chunk);
        else
          end(
            new Failure(
              'compose-too-large',
              `The rendered compose config is larger than ${MAX_OUTPUT_BYTES / 2 ** 20} MiB.`,
              'Make the compose file smaller. Nothing was started.',
            ),
          );
      });
    child.once('error', error => {
      clearTimeout(timer);
      reject(
        new Failure(
          'program-missing',
          `${argv[0]} could not be run: ${error.message}`,
          `Install ${argv[0]} on the host.`,
        ),
      );
    });
    child.once('close', code => {
      clearTimeout(timer);
      if (failure) return reject(failure);
      const [stdout, stderr] = [output.stdout, output.stderr].map(list => Buffer.concat(list).toString('utf8'));
      resolve({ code, stdout: stdout ?? '', stderr: stderr ?? '' });
    });
  });
}
