import { messageOf } from '../../protocol/refusal.ts';
import type { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import type { RunStore } from '../store/runs.ts';
import type { createHostReader } from '../system/host-reader.ts';

export interface ReadinessDeps {
  engine: Pick<DockerEngine, 'ping'>;
  host: ReturnType<typeof createHostReader>;
  /** The Docker command of agent.yaml. */
  docker: string;
  store: Pick<RunStore, 'probe'>;
}

/** Returns the check behind /readyz: it lists what is not ready, one line each. */
export function createReadinessCheck({ engine, host, docker, store }: ReadinessDeps): () => Promise<string[]> {
  return async () => [
    ...(await collectProblem(() => engine.ping())),
    ...(await collectProblem(() => checkCompose(host, docker))),
    ...(await collectProblem(async () => store.probe())),
  ];
}

async function checkCompose(host: ReadinessDeps['host'], docker: string): Promise<void> {
  const answer = await host.ask([docker, 'compose', 'version', '--short'], { keepFor: 60_000 });
  if (answer?.code !== 0)
    throw new Failure('program-missing', `"${docker} compose version" fails: ${answer?.stderr.trim()}`, '');
}

async function collectProblem(check: () => Promise<unknown>): Promise<string[]> {
  try {
    await check();
    return [];
  } catch (error) {
    return [messageOf(error)];
  }
}
