import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Where a secret lies that agent.yaml names: a path, or `credential:NAME` for one of systemd's. Throws an Error. */
export function secretPath(named: string, env: NodeJS.ProcessEnv = process.env): string {
  if (!named.startsWith('credential:')) return named;
  const folder = env.CREDENTIALS_DIRECTORY;
  if (!folder)
    throw new Error(`${named}: systemd has given no credentials. Add LoadCredential= to the unit, or name a file.`);
  return join(folder, named.slice('credential:'.length));
}

/** The first line of such a file. Throws an Error where it is not there, is empty, or others can read it. */
export function readSecretFile(named: string): string {
  const path = secretPath(named);
  if ((statSync(path).mode & 0o077) !== 0 && path === named)
    throw new Error(`${path}: others can read this secret. Run: chmod 600 ${path}`);
  const [line = ''] = readFileSync(path, 'utf8').split('\n');
  if (line.trim() === '') throw new Error(`${path}: its first line is empty. Put the secret there.`);
  return line.trim();
}
