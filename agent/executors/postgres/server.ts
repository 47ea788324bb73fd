import type { FailureReason, HostReader } from '../../plan/plan.ts';
import { type DatabaseServer, findServer, type ServerFields } from '../backup/database-server.ts';
import type { HostSite } from '../executor.ts';

/** The variable from which libpq takes the password. */
export const PASSWORD_VARIABLE = 'PGPASSWORD';

export const OLD_CLIENT: FailureReason = {
  says: 'server version mismatch',
  code: 'database-version',
  remedy:
    'Install the client of the server’s version, or name the server’s container: pg_dump is older than the server.',
};

/** Throws Failure: `container-missing`, `container-stopped`. */
export function findPostgres(intent: ServerFields, site: HostSite, host: HostReader): Promise<DatabaseServer> {
  const passwords = (user: string, own: string | undefined) =>
    user === (own ?? 'postgres') ? ['POSTGRES_PASSWORD'] : [];
  return findServer(intent, { user: 'postgres', variable: 'POSTGRES_USER', passwords }, site, host);
}

export function hostArgs({ socket }: DatabaseServer): string[] {
  return socket === undefined ? [] : ['--host', socket];
}

/** Returns the version text of a program of the server; empty in a dry run. */
export async function readServerVersion(
  server: DatabaseServer,
  program: string,
  site: HostSite,
  host: HostReader,
): Promise<string> {
  const argv: [string, ...string[]] =
    server.socket === undefined ? [site.docker, 'exec', server.at, program, '--version'] : [program, '--version'];
  return (await host.ask(argv))?.stdout.split('\n')[0]?.trim() ?? '';
}
