import type {
  ComposeConfig,
  ComposeProject,
  MeasureStep,
  Milliseconds,
  PrepareMountsStep,
  StartStep,
  TidyStep,
} from '../../plan/plan.ts';
import { type HostSite, parseDuration } from '../executor.ts';
import { type CheckedStack, composeCommand, type StackConfig } from './compose-command.ts';
import type { ComposeTarget } from './target.ts';

const MINUTE = 60_000;
/** A pull without output and without progress for this long hangs. */
const PULL_STALL = 5 * MINUTE;

/** Texts of failures while the engine restarts. */
const NO_ENGINE = {
  on: [
    'Cannot connect to the Docker daemon',
    'error during connect',
    'unexpected EOF',
    ': EOF',
    'connection reset by peer',
  ],
  times: 30,
  pause: 2_000,
};
/** Texts of failures after a killed or a second compose: the engine still works on its containers. */
const IN_BETWEEN = {
  on: ['is already in use by container', 'is already in progress', 'No such container', 'is marked for removal'],
  times: 5,
  pause: 1_000,
};

export interface StepLimits {
  pull: Milliseconds;
  up: Milliseconds;
  healthy: Milliseconds;
}

/** Returns the timeout of each long step; an intent's `timeout` limits them all. */
export function parseLimits(timeout: string | undefined): StepLimits {
  if (timeout === undefined) return { pull: 20 * MINUTE, up: 10 * MINUTE, healthy: 5 * MINUTE };
  const limit = parseDuration(timeout);
  return { pull: limit, up: limit, healthy: limit };
}

/** Plans the pull. `unchanged` says what is true of the stack if it fails. */
export function planPull(
  config: StackConfig,
  rendered: ComposeConfig | undefined,
  services: string[],
  timeout: Milliseconds,
  unchanged: string,
): StartStep {
  return {
    do: 'start',
    name: 'pull',
    argv: composeCommand(config, ['pull', '--ignore-buildable', ...services]),
    cwd: config.dir,
    timeout,
    ...(timeout > PULL_STALL ? { stallTimeout: PULL_STALL } : {}),
    repeatable: true,
    registries: listRegistries(rendered, services),
    retry: [{ ...NO_ENGINE, on: NO_ENGINE.on.slice(0, 2) }],
    failure: {
      code: 'pull-failed',
      remedy: `Check the image’s name and tag, and the host’s login at the registry. ${unchanged}`.trim(),
    },
  };
}

/** Returns the registries of the images of these services, or of all. */
export function listRegistries(rendered: ComposeConfig | undefined, services: string[]): string[] {
  const hosts = Object.entries(rendered?.services ?? {}).flatMap(([name, { image }]) => {
    if (image === undefined || (services.length > 0 && !services.includes(name))) return [];
    const [first = '', ...rest] = image.split('/');
    return rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : 'docker.io';
  });
  return [...new Set(hosts)];
}

/** Plans a compose command that changes what runs. It is repeatable: compose converges to the file. */
export function planChange(
  name: string,
  config: StackConfig,
  args: string[],
  timeout: Milliseconds,
  failure: StartStep['failure'] = {
    code: 'up-failed',
    remedy: 'Read the step’s output. Run "docker compose ps -a" on the host to see what runs.',
  },
): StartStep {
  return {
    do: 'start',
    name,
    argv: composeCommand(config, args),
    cwd: config.dir,
    timeout,
    changes: true,
    repeatable: true,
    retry: [NO_ENGINE, IN_BETWEEN],
    failure,
  };
}

/** Plans a docker command on containers or images by id. */
export function planDockerCall(name: string, argv: [string, ...string[]], more: Partial<StartStep> = {}): StartStep {
  return {
    do: 'start',
    name,
    argv,
    timeout: 2 * MINUTE,
    repeatable: true,
    retry: [NO_ENGINE],
    failure: { code: 'docker-failed', remedy: 'Read the step’s output, and try the command on the host.' },
    ...more,
  };
}

/** Plans the removal of half-created containers of a killed compose: the next compose would take them for the service. */
export function planTidy(name: string, target: ComposeTarget, site: HostSite): TidyStep {
  return { do: 'tidy', name, project: target.whole, docker: site.docker, timeout: 2 * MINUTE };
}

export function planMeasure(as: 'before' | 'after', project: ComposeProject, name = `images ${as}`): MeasureStep {
  return { do: 'measure', name, what: 'images', as, project };
}

/** The steps right before compose starts the new version, the new version with its ports, and the one before. */
export const PREPARE_STEP = 'prepare mounts';
export const PREPARE_SWITCH_STEP = 'prepare mounts for the switch';
export const PREPARE_AGAIN_STEP = 'prepare mounts again';

/** Plans the check of the mounts' sources right before compose starts a stack; nothing in a dry run. */
export function planPrepareMounts(
  name: string,
  { rendered, mounts }: CheckedStack,
  { file, sha256 }: StackConfig,
  { target, site, intent }: { target: ComposeTarget; site: HostSite; intent: { stack: string } },
): PrepareMountsStep[] {
  if (!rendered) return [];
  const nested = site.compose.rulesOf(intent.stack).grants.includes('nested-binds');
  return [{ do: 'prepare-mounts', name, config: { file, sha256 }, mounts, project: target.whole, nested }];
}
