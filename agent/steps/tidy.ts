import type { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import type { StartStep, TidyStep } from '../plan/plan.ts';
import { ENGINE_TIMEOUT_MS } from './engine-retry.ts';
import { listContainers } from './health.ts';
import { type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';
import { runStart } from './start.ts';

/** Compose's name for a container that replaces another, until it does. */
const TEMPORARY = /^[0-9a-f]{12}_/;

export async function* runTidy(step: TidyStep, context: StepContext): StepExecution {
  const ids = await findContainersToRemove(context.engine, step, context.signal);
  if (ids.length === 0) return SUCCEEDED;
  const remove: StartStep = {
    do: 'start',
    name: step.name,
    argv: [step.docker, 'container', 'rm', '--force', ...ids],
    timeout: step.timeout,
    // 1: one of them is gone already.
    okCodes: [0, 1],
    repeatable: true,
    failure: { code: 'docker-failed', remedy: 'Remove the containers on the host.' },
  };
  return yield* runStart(remove, context);
}

/** Waits for an engine that does not answer. If it still does not, no container is found. */
async function findContainersToRemove(
  engine: DockerEngine,
  { project, keep }: TidyStep,
  signal: AbortSignal,
): Promise<string[]> {
  await engine.waitUntilReady(ENGINE_TIMEOUT_MS, signal);
  const containers = await listContainers(engine, project).catch((error: unknown) => {
    if (error instanceof Failure) return [];
    throw error;
  });
  const isToRemove = ({ Id, State, Names }: (typeof containers)[number]) =>
    keep ? !keep.includes(Id) : State === 'created' && TEMPORARY.test(Names[0]?.slice(1) ?? '');
  return containers.filter(isToRemove).map(({ Id }) => Id);
}
