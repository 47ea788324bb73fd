import type { FailureReason, HostReader } from '../../plan/plan.ts';
import { type DatabaseServer, findServer } from '../backup/database-server.ts';
import type { HostSite } from '../executor.ts';

/** Where libpq looks for a password. */
export const PASSWORD_VARIABLE = 'PGPASSWORD';

export const OLD_CLIENT: FailureReason = {
  says: 'server version mismatch',
  code: 'database-version',
  remedy:
    'pg_dump is older than the server: install the client of the server’s version, or name the server’s container.',
};

interface ServerFields {
  source_container?: string | undefined;
  source?: string | undefined;
  user?: string | undefined;
}

/** Throws Failure: `container-missing`, `container-stopped`. */
export function findPostgres(wish: ServerFields, site: HostSite, look: HostReader): Promise<DatabaseServer> {
  const passwords = (user: string, own: string | undefined) =>
    user === (own ?? 'postgres') ? ['POSTGRES_PASSWORD'] : [];
  return findServer(wish, { user: 'postgres', variable: 'POSTGRES_USER', passwords }, site, look);
}

export function hostArgs({ socket }: DatabaseServer): string[] {
  return socket === undefined ? [] : ['--host', socket];
}

/** What a program of the server says of its version; empty where it is not known. */
export async function readServerVersion(
  server: DatabaseServer,
  program: string,
  site: HostSite,
  look: HostReader,
): Promise<string> {
  const argv: [string, ...string[]] =
    server.socket === undefined ? [site.docker, 'exec', server.at, program, '--version'] : [program, '--version'];
  return (await look.ask(argv))?.stdout.split('\n')[0]?.trim() ?? '';
}
