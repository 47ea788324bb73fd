import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import type { HostReader, ReadResult, StartStep, Step } from '../../plan/plan.ts';
import type { HostSite, Verify } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import type { BackupSource } from './opened.ts';

/** Stops or pauses the services that write to the data, and starts them again. */
export interface QuiesceSteps {
  quiesce: Step[];
  resume: Step[];
  /** Starts the services if the plan ended before `resume`: also after a crash. */
  cleanup: Step[];
  /** Names the services that are not stopped although the intent says so; empty if there are none. */
  note: string;
}

interface QuiesceOptions {
  stack?: string | undefined;
  stop_services?: string[] | undefined;
  consistency?: 'live' | 'pause' | 'stop' | undefined;
}

const STOP_TIMEOUT = 5 * 60_000;

/**
 * Stops or pauses the containers that the intent names and that run now. Only these are started again. Throws Failure
 * `service-unknown`.
 */
export async function planQuiesce(
  intent: QuiesceOptions,
  source: Pick<BackupSource, 'container'>,
  site: HostSite,
  host: HostReader,
): Promise<QuiesceSteps> {
  const consistency = intent.consistency ?? (intent.stop_services ? 'stop' : 'live');
  const { running, note } =
    consistency === 'live' ? { running: [], note: '' } : await findRunningContainers(intent, source, site, host);
  if (running.length === 0) return { quiesce: [], resume: [], cleanup: [], note };
  const docker = (name: string, verb: string, more: Partial<StartStep> = {}): StartStep => ({
    do: 'start',
    name,
    argv: [site.docker, 'container', verb, ...running],
    timeout: STOP_TIMEOUT,
    changes: true,
    repeatable: true,
    retry: [{ on: ['Cannot connect to the Docker daemon', 'error during connect'], times: 30, pause: 2_000 }],
    failure: {
      code: 'docker-failed',
      remedy: `Check the containers with "docker ps --all". These were running: ${running.join(', ')}`,
    },
    ...more,
  });
  const [quiesce, resume] = consistency === 'stop' ? (['stop', 'start'] as const) : (['pause', 'unpause'] as const);
  return {
    quiesce: [docker(quiesce, quiesce, consistency === 'pause' ? { repeatable: true, okCodes: [0, 1] } : {})],
    resume: [docker(resume, resume)],
    // Starting a container that runs is harmless. Exit code 1: no container is paused any more.
    cleanup: [
      {
        ...docker(`${resume} in any case`, resume, { okCodes: [0, 1] }),
        ifBegan: quiesce,
        unlessBegan: 'read back',
      },
    ],
    note,
  };
}

async function findRunningContainers(
  intent: QuiesceOptions,
  source: Pick<BackupSource, 'container'>,
  site: HostSite,
  host: HostReader,
): Promise<{ running: string[]; note: string }> {
  const names: string[] = [];
  if (source.container !== undefined) {
    const found = (await host.engine(
      `/containers/${encodeURIComponent(source.container)}/json`,
    )) as ReadResult<ContainerDetails>;
    if (found?.State.Running && !found.State.Paused) names.push(found.Id);
  }
  if (!intent.stop_services || intent.stack === undefined) return { running: names, note: '' };
  const project = { dir: `${site.stacksRoot}/${intent.stack}` };
  const listed = (await host.engine(composeContainersPath(project))) as ReadResult<ContainerListing[]>;
  if (listed === undefined) return { running: names, note: '' };
  const containers = (listed ?? []).map(one => ({ ...one, service: composeLabel(one, 'service') }));
  const known = [...new Set(containers.map(({ service }) => service))];
  const unknown = intent.stop_services.find(service => !known.includes(service));
  // A stack without containers has nothing to stop: a restore may be the first step after a loss.
  if (unknown !== undefined && known.length > 0)
    throw new Failure(
      'service-unknown',
      `The stack ${intent.stack} has no containers of a service "${unknown}", which the intent wants to stop.`,
      `Correct stop_services. The stack has: ${known.join(', ')}.`,
    );
  const wanted = containers.filter(({ service }) => intent.stop_services?.includes(service));
  const running = wanted.filter(({ State }) => State === 'running');
  for (const { Id } of running) if (!names.includes(Id)) names.push(Id);
  const idle = intent.stop_services.filter(name => !running.some(({ service }) => service === name));
  return {
    running: names,
    note: idle.length === 0 ? '' : `Not stopped, because no container runs: ${idle.join(', ')}.`,
  };
}

const HEALTH_TIMEOUT = 5 * 60_000;

interface RestartCheckOptions extends QuiesceOptions {
  verify?: Verify | undefined;
}

/** Checks that the services work with the restored data: by their health checks, and by the intent's `verify`. */
export function planRestartChecks(
  intent: RestartCheckOptions,
  { resume }: QuiesceSteps,
  site: HostSite,
): (again: boolean) => Step[] {
  if (intent.stack === undefined) return () => [];
  const project = { dir: `${site.stacksRoot}/${intent.stack}` };
  const services = intent.stop_services;
  return again => [
    ...(services && resume.length > 0
      ? [planHealthCheck(`wait until healthy${again ? ' again' : ''}`, { ...project, services }, site, HEALTH_TIMEOUT)]
      : []),
    ...planVerify(intent.verify, project, site, { healthy: HEALTH_TIMEOUT, again }),
  ];
}
