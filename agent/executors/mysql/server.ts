import { Failure } from '../../plan/failure.ts';
import type { HostReader, StartStep, Step } from '../../plan/plan.ts';
import { type DatabaseServer, findServer, planServerCall, type ServerFields } from '../backup/database-server.ts';
import type { StepTimeouts } from '../backup/group.ts';
import { copiesFile, DISK_FULL, readsFrom, storageRoot, writesTo } from '../backup/opened.ts';
import type { HostSite } from '../executor.ts';

/** The variable from which the clients take the password. */
const PASSWORD = 'MYSQL_PWD';

/** Throws Failure: `container-missing`, `container-stopped`. */
export function findMysql(intent: ServerFields, site: HostSite, host: HostReader): Promise<DatabaseServer> {
  const passwords = (user: string) =>
    user === 'root' ? ['MARIADB_ROOT_PASSWORD', 'MYSQL_ROOT_PASSWORD'] : ['MARIADB_PASSWORD', 'MYSQL_PASSWORD'];
  return findServer(intent, { user: 'root', passwords }, site, host);
}

/** Returns the first of these programs that the server has, with its version text. Throws Failure `program-missing`. */
export async function findProgram(
  server: Pick<DatabaseServer, 'at' | 'socket' | 'name'>,
  names: [string, ...string[]],
  site: HostSite,
  host: HostReader,
): Promise<{ program: string; version: string }> {
  for (const program of names) {
    const argv: [string, ...string[]] =
      server.socket === undefined ? [site.docker, 'exec', server.at, program, '--version'] : [program, '--version'];
    const answer = await host.ask(argv);
    if (!answer) return { program, version: '' };
    if (answer.code === 0) return { program, version: answer.stdout.split('\n')[0]?.trim() ?? '' };
  }
  throw new Failure(
    'program-missing',
    `${server.name} has neither ${names.join(' nor ')}.`,
    'Name the container of the database server: its image has them.',
  );
}

export type ServerCall = (name: string, argv: [string, ...string[]], more?: Partial<StartStep>) => StartStep;

export function createServerCall(
  server: Pick<DatabaseServer, 'at' | 'socket' | 'password'>,
  site: HostSite,
  times: StepTimeouts,
  failure: StartStep['failure'] = {
    code: 'dump-failed',
    remedy: 'Read the step’s output. No earlier backup was changed.',
  },
): ServerCall {
  return (name, argv, more = {}) => planServerCall(name, argv, server, PASSWORD, site, { ...times, failure, ...more });
}

export function mysqlConnectionArgs({ socket, user }: Pick<DatabaseServer, 'socket' | 'user'>): string[] {
  return [...(socket === undefined ? [] : ['--socket', `${socket}/mysqld.sock`]), '--user', user];
}

/** Without `--force`: it continues after an error and still writes the last line. */
export function planMysqlDump(
  name: string,
  database: string,
  output: Pick<StartStep, 'stdoutTo' | 'stdoutLimit' | 'opens'>,
  program: string,
  server: Pick<DatabaseServer, 'socket' | 'user'>,
  call: ServerCall,
): StartStep {
  const options = ['--single-transaction', '--quick', '--routines', '--events', '--triggers', '--hex-blob'];
  return call(
    name,
    [
      program,
      ...mysqlConnectionArgs(server),
      ...options,
      '--default-character-set=utf8mb4',
      '--databases',
      '--',
      database,
    ],
    {
      ...output,
      repeatable: true,
      reasons: [
        {
          says: 'Unknown database',
          code: 'database-missing',
          remedy: 'Correct "database". No earlier backup was changed.',
        },
        {
          says: 'Access denied',
          code: 'database-denied',
          remedy: 'Name the user and its password_file under backups.databases in agent.yaml.',
        },
        {
          exit: [5],
          code: 'destination-full',
          remedy: 'Free space at the destination. No earlier backup was changed.',
        },
      ],
    },
  );
}

/** Returns the steps that compress a dump, and the name of the file that is kept. */
export function planPack(
  dump: string,
  compress: 'zstd' | 'gzip' | '0',
  site: HostSite,
  times: StepTimeouts,
): { file: string; pack: Step[] } {
  const file = dump.slice(dump.lastIndexOf('/') + 1);
  if (compress === '0') return { file, pack: [] };
  const ending = compress === 'zstd' ? 'zst' : 'gz';
  const failure = {
    code: 'copy-failed',
    remedy: `Check the free space of the destination, and install ${compress}. No earlier backup was changed.`,
  };
  const step = (name: string, argv: [string, ...string[]], more: Partial<StartStep>): StartStep => ({
    do: 'start',
    name,
    argv,
    ...times,
    repeatable: true,
    failure,
    reasons: [DISK_FULL],
    ...more,
  });
  const packed = writesTo(`${dump}.${ending}`, site);
  const input = readsFrom(dump, site);
  return {
    file: `${file}.${ending}`,
    pack: [
      step('compress', compress === 'zstd' ? ['zstd', '--quiet', '--check'] : ['gzip'], {
        ...{ ...packed, ...input },
        opens: packed.opens ?? [],
      }),
      step('test', [compress, '--quiet', '--test'], readsFrom(`${dump}.${ending}`, site)),
      { do: 'clear', name: 'remove the plain dump', path: dump, root: storageRoot(dump, site) },
    ],
  };
}

/** Unpacks a kept dump to `to`. */
export function planDumpUnpack(kept: string, to: string, site: HostSite, times: StepTimeouts): StartStep {
  const argv: [string, ...string[]] = kept.endsWith('.zst')
    ? ['zstd', '--quiet', '--decompress']
    : kept.endsWith('.gz')
      ? ['gzip', '--decompress']
      : ['cat'];
  const failure = {
    code: 'backup-broken',
    remedy: 'Restore another backup ("at"): this one could not be unpacked. Nothing was changed.',
  };
  const files = copiesFile(readsFrom(kept, site), writesTo(to, site));
  return { do: 'start', name: 'unpack', ...files, argv, ...times, repeatable: true, failure };
}

/** Returns the option with which newer MariaDB clients refuse commands (`\! …`) inside a dump; empty for other clients. */
export async function findSandboxOption(
  server: Pick<DatabaseServer, 'at'>,
  client: string,
  site: HostSite,
  host: HostReader,
): Promise<string[]> {
  const help = await host.ask([site.docker, 'exec', server.at, client, '--help']);
  return help?.stdout.includes('--sandbox') ? ['--sandbox'] : [];
}
