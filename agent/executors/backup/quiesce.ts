import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../../plan/containers.ts';
import type { HostReader, ReadResult, StartStep, Step } from '../../plan/plan.ts';
import type { HostSite, Verify } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import type { BackupSource } from './group.ts';

export interface QuiesceSteps {
  hold: Step[];
  release: Step[];
  /** For when it did not come to the release: also after a crash. */
  cleanup: Step[];
}

interface QuiesceOptions {
  stack?: string | undefined;
  stop_services?: string[] | undefined;
  consistency?: 'live' | 'pause' | 'stop' | undefined;
}

const STOPPING = 5 * 60_000;

/** Stops or pauses the containers that run now and are named by the intent, and those only are brought back. */
export async function planQuiesce(
  intent: QuiesceOptions,
  source: Pick<BackupSource, 'container'>,
  site: HostSite,
  look: HostReader,
): Promise<QuiesceSteps> {
  const how = intent.consistency ?? (intent.stop_services ? 'stop' : 'live');
  const running = how === 'live' ? [] : await findRunningContainers(intent, source, site, look);
  if (running.length === 0) return { hold: [], release: [], cleanup: [] };
  const docker = (name: string, verb: string, more: Partial<StartStep> = {}): StartStep => ({
    do: 'start',
    name,
    argv: [site.docker, 'container', verb, ...running],
    timeout: STOPPING,
    changes: true,
    repeatable: true,
    retry: [{ on: ['Cannot connect to the Docker daemon', 'error during connect'], times: 30, pause: 2_000 }],
    failure: {
      code: 'docker-failed',
      remedy: `Look at the containers: docker ps --all. Those that ran: ${running.join(', ')}`,
    },
    ...more,
  });
  const [hold, release] = how === 'stop' ? (['stop', 'start'] as const) : (['pause', 'unpause'] as const);
  return {
    hold: [docker(hold, hold, how === 'pause' ? { repeatable: true, okCodes: [0, 1] } : {})],
    release: [docker(release, release)],
    // Once more is harmless: what runs is started already. 1: nothing is paused any more.
    cleanup: [
      { ...docker(`${release} in any case`, release, { okCodes: [0, 1] }), ifBegan: hold, unlessBegan: 'read back' },
    ],
  };
}

async function findRunningContainers(
  intent: QuiesceOptions,
  source: Pick<BackupSource, 'container'>,
  site: HostSite,
  look: HostReader,
): Promise<string[]> {
  const names: string[] = [];
  if (source.container !== undefined) {
    const found = (await look.engine(
      `/containers/${encodeURIComponent(source.container)}/json`,
    )) as ReadResult<ContainerDetails>;
    if (found?.State.Running && !found.State.Paused) names.push(found.Id);
  }
  if (intent.stop_services && intent.stack !== undefined) {
    const project = { dir: `${site.stacksRoot}/${intent.stack}` };
    const listed = (await look.engine(composeContainersPath(project, { running: true }))) as ReadResult<
      ContainerListing[]
    >;
    for (const container of listed ?? [])
      if (intent.stop_services.includes(composeLabel(container, 'service')) && !names.includes(container.Id))
        names.push(container.Id);
  }
  return names;
}

const HEALTHY = 5 * 60_000;

interface RestartCheckOptions extends QuiesceOptions {
  verify?: Verify | undefined;
}

/** What shows that the services which were stopped work with what they find now: their health, and the intent's checks. */
export function planRestartChecks(
  intent: RestartCheckOptions,
  still: QuiesceSteps,
  site: HostSite,
): (again: boolean) => Step[] {
  if (intent.stack === undefined) return () => [];
  const project = { dir: `${site.stacksRoot}/${intent.stack}` };
  const services = intent.stop_services;
  return again => [
    ...(services && still.release.length > 0
      ? [planHealthCheck(`wait until healthy${again ? ' again' : ''}`, { ...project, services }, HEALTHY)]
      : []),
    ...planVerify(intent.verify, project, { allow: site.verify, healthy: HEALTHY, again }),
  ];
}
