import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** The folder of the unit's systemd credentials, for commands that systemd did not start. */
const CREDENTIALS = '/run/credentials/chatops-agent.service';

/** A secret that is not usable. The message has the remedy. */
class SecretError extends Error {
  override name = 'SecretError';
  readonly code = 'secret-unreadable';
}

/** Returns the path of a secret that agent.yaml names: a path, or `credential:NAME` for one of systemd's. */
export function secretPath(named: string, env: NodeJS.ProcessEnv = process.env): string {
  if (!named.startsWith('credential:')) return named;
  return join(env.CREDENTIALS_DIRECTORY ?? CREDENTIALS, named.slice('credential:'.length));
}

/** Returns each line of a secret file: two are valid while a secret is rotated. Throws as {@link readSecretFile} does. */
export function readSecrets(named: string): string[] {
  readSecretFile(named);
  return readFileSync(secretPath(named), 'utf8')
    .split('\n')
    .map(line => line.trim())
    .filter(Boolean);
}

/**
 * Returns the first line of a secret file. Throws a {@link SecretError} if that is empty or other users can read the file, and
 * the system's error if it does not exist.
 */
export function readSecretFile(named: string): string {
  const path = secretPath(named);
  if ((statSync(path).mode & 0o077) !== 0 && path === named)
    throw new SecretError(`${path}: other users can read this secret. Run: chmod 600 ${path}`);
  const [line = ''] = readFileSync(path, 'utf8').split('\n');
  if (line.trim() === '') throw new SecretError(`${path}: its first line is empty. Write the secret there.`);
  return line.trim();
}
