import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Where systemd puts what it loads for the unit, for commands that are not started by it. */
const CREDENTIALS = '/run/credentials/chatops-agent.service';

/** A secret that can't be used; the message says what to do. */
export class SecretError extends Error {
  override name = 'SecretError';
  readonly code = 'secret-unreadable';
}

/** Where a secret lies that agent.yaml names: a path, or `credential:NAME` for one of systemd's. */
export function secretPath(named: string, env: NodeJS.ProcessEnv = process.env): string {
  if (!named.startsWith('credential:')) return named;
  return join(env.CREDENTIALS_DIRECTORY ?? CREDENTIALS, named.slice('credential:'.length));
}

/** Each line of such a file, while a secret is being changed: either is good. Throws as {@link readSecretFile} does. */
export function readSecrets(named: string): string[] {
  readSecretFile(named);
  return readFileSync(secretPath(named), 'utf8')
    .split('\n')
    .map(line => line.trim())
    .filter(Boolean);
}

/** The first line of such a file. Throws a {@link SecretError} where it is empty or others can read it, and the system's error where it is not there. */
export function readSecretFile(named: string): string {
  const path = secretPath(named);
  if ((statSync(path).mode & 0o077) !== 0 && path === named)
    throw new SecretError(`${path}: others can read this secret. Run: chmod 600 ${path}`);
  const [line = ''] = readFileSync(path, 'utf8').split('\n');
  if (line.trim() === '') throw new SecretError(`${path}: its first line is empty. Put the secret there.`);
  return line.trim();
}
