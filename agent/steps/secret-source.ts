import { messageOf } from '../../protocol/refusal.ts';
import type { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import type { SecretSource } from '../plan/plan.ts';
import { readRegular } from '../system/safe-paths.ts';

const MAX_SECRET_BYTES = 64 * 1024;

/**
 * Reads a secret when it is used, so that no plan holds it. Returns undefined for a variable that the container does not
 * have. Throws Failure: `secret-unreadable`, `docker-unreachable`.
 */
export async function readSecret(source: SecretSource, engine: DockerEngine): Promise<string | undefined> {
  if ('file' in source) {
    try {
      return (await readRegular(source.file, MAX_SECRET_BYTES, { follow: true })).toString().split('\n')[0];
    } catch (error) {
      throw new Failure(
        'secret-unreadable',
        `A password is not readable: ${messageOf(error)}`,
        'Correct password_file in agent.yaml, or let the agent’s user read it.',
      );
    }
  }
  const container = (await engine.get(`/containers/${encodeURIComponent(source.container)}/json`)) as {
    Config?: { Env?: string[] };
  } | null;
  const lines = container?.Config?.Env ?? [];
  for (const variable of source.variables) {
    const line = lines.find(one => one.startsWith(`${variable}=`));
    if (line !== undefined) return line.slice(variable.length + 1);
  }
  return undefined;
}
