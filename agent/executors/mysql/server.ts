import { CannotPlan } from '../../plan/failure.ts';
import type { Look, Milliseconds, Start } from '../../plan/plan.ts';
import { findServer, onServer, type Server } from '../backup/database-server.ts';
import type { Site } from '../executor.ts';

/** Where the clients look for a password. */
const PASSWORD = 'MYSQL_PWD';

interface Wish {
  source_container?: string | undefined;
  source?: string | undefined;
  user?: string | undefined;
}

interface Times {
  timeout: Milliseconds;
  stallTimeout: Milliseconds;
}

/** Throws CannotPlan: `container-missing`, `container-stopped`. */
export function findMysql(wish: Wish, site: Site, look: Look): Promise<Server> {
  const passwords = (user: string) =>
    user === 'root' ? ['MARIADB_ROOT_PASSWORD', 'MYSQL_ROOT_PASSWORD'] : ['MARIADB_PASSWORD', 'MYSQL_PASSWORD'];
  return findServer(wish, { user: 'root', passwords }, site, look);
}

/** The first of these programs that is there, and what it says of its version. Throws CannotPlan `program-missing`. */
export async function findProgram(
  server: Pick<Server, 'at' | 'socket' | 'name'>,
  names: [string, ...string[]],
  site: Site,
  look: Look,
): Promise<{ program: string; version: string }> {
  for (const program of names) {
    const argv: [string, ...string[]] =
      server.socket === undefined ? [site.docker, 'exec', server.at, program, '--version'] : [program, '--version'];
    const answer = await look.ask(argv);
    if (!answer) return { program, version: '' };
    if (answer.code === 0) return { program, version: answer.stdout.split('\n')[0]?.trim() ?? '' };
  }
  throw new CannotPlan(
    'program-missing',
    `There is neither ${names.join(' nor ')} in ${server.name}.`,
    'Name the container of the database server: its image has them.',
  );
}

export type Call = (name: string, argv: [string, ...string[]], more?: Partial<Start>) => Start;

export function callAt(
  server: Pick<Server, 'at' | 'socket' | 'password'>,
  site: Site,
  times: Times,
  failure: Start['failure'] = {
    code: 'dump-failed',
    remedy: 'Read the step’s output. The earlier backups are untouched.',
  },
): Call {
  return (name, argv, more = {}) => onServer(name, argv, server, PASSWORD, site, { ...times, failure, ...more });
}

export function connection({ socket, user }: Pick<Server, 'socket' | 'user'>): string[] {
  return [...(socket === undefined ? [] : ['--socket', `${socket}/mysqld.sock`]), '--user', user];
}

/** `--force` would go on after an error and still write the last line. */
export function dumpOf(
  name: string,
  database: string,
  to: string,
  program: string,
  server: Pick<Server, 'socket' | 'user'>,
  call: Call,
): Start {
  const what = ['--single-transaction', '--quick', '--routines', '--events', '--triggers', '--hex-blob'];
  return call(
    name,
    [program, ...connection(server), ...what, '--default-character-set=utf8mb4', '--databases', '--', database],
    {
      stdoutTo: to,
      repeatable: true,
      reasons: [
        {
          says: 'Unknown database',
          code: 'database-missing',
          remedy: 'Correct "database". The earlier backups are untouched.',
        },
        {
          says: 'Access denied',
          code: 'database-denied',
          remedy: 'Name the user and its password_file under backups.databases in agent.yaml.',
        },
        {
          exit: [5],
          code: 'destination-full',
          remedy: 'Make room at the destination. The earlier backups are untouched.',
        },
      ],
    },
  );
}

/** A dump as it is kept: its file's name, and the steps that make that of it. */
export function packed(dump: string, compress: 'zstd' | 'gzip' | '0', times: Times): { file: string; pack: Start[] } {
  const file = dump.slice(dump.lastIndexOf('/') + 1);
  if (compress === '0') return { file, pack: [] };
  const ending = compress === 'zstd' ? 'zst' : 'gz';
  const failure = {
    code: 'copy-failed',
    remedy: `Look for room at the destination, and that ${compress} is installed. The earlier backups are untouched.`,
  };
  const start = (name: string, argv: [string, ...string[]]): Start => ({ do: 'start', name, argv, ...times, failure });
  return {
    file: `${file}.${ending}`,
    pack: [
      start(
        'compress',
        compress === 'zstd' ? ['zstd', '--quiet', '--check', '--rm', '--', dump] : ['gzip', '--', dump],
      ),
      start('test', [compress, '--quiet', '--test', '--', `${dump}.${ending}`]),
    ],
  };
}

/** The steps that make a dump of what is kept, at `to`. */
export function unpacked(kept: string, to: string, times: Times): Start {
  const argv: [string, ...string[]] = kept.endsWith('.zst')
    ? ['zstd', '--quiet', '--decompress', '--stdout', '--', kept]
    : kept.endsWith('.gz')
      ? ['gzip', '--decompress', '--stdout', '--', kept]
      : ['cat', '--', kept];
  const failure = { code: 'backup-broken', remedy: 'The backup can’t be unpacked. Nothing was changed.' };
  return { do: 'start', name: 'unpack', argv, stdoutTo: to, ...times, repeatable: true, failure };
}

/** A dump may hold commands for the client (`\! …`): newer ones of MariaDB refuse them with this. */
export async function sandboxOf(server: Pick<Server, 'at'>, client: string, site: Site, look: Look): Promise<string[]> {
  const help = await look.ask([site.docker, 'exec', server.at, client, '--help']);
  return help?.stdout.includes('--sandbox') ? ['--sandbox'] : [];
}
