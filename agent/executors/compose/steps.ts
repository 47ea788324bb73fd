import type {
  ComposeProject,
  JudgeConfigStep,
  MeasureStep,
  Milliseconds,
  StartStep,
  TidyStep,
} from '../../plan/plan.ts';
import { type HostSite, parseDuration } from '../executor.ts';
import type { ComposeTarget, ComposeVariant } from './target.ts';

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

/** Plans the check of the rendered config. The grants of `stack` apply. */
export function planConfigCheck(
  stack: string,
  target: ComposeTarget,
  site: HostSite,
  variant: ComposeVariant = {},
): JudgeConfigStep {
  const { binds, ports, socket } = site.compose;
  return {
    do: 'judge-config',
    name: 'check config',
    argv: target.compose(['config', '--format', 'json'], variant),
    cwd: target.dir,
    timeout: MINUTE,
    file: variant.files?.[0] ?? target.file,
    rules: { grants: site.compose.grantsOf(stack), binds: [target.dir, ...binds], ports, socket },
  };
}

/** Plans the pull. `unchanged` says what is true of the stack if it fails. */
export function planPull(
  target: ComposeTarget,
  services: string[],
  timeout: Milliseconds,
  unchanged: string,
): StartStep {
  return {
    do: 'start',
    name: 'pull',
    argv: target.compose(['pull', '--ignore-buildable', ...services]),
    cwd: target.dir,
    timeout,
    ...(timeout > PULL_STALL ? { stallTimeout: PULL_STALL } : {}),
    repeatable: true,
    pulls: true,
    retry: [{ ...NO_ENGINE, on: NO_ENGINE.on.slice(0, 2) }],
    failure: {
      code: 'pull-failed',
      remedy: `Check the image’s name and tag, and the host’s login at the registry. ${unchanged}`.trim(),
    },
  };
}

/** Plans a compose command that changes what runs. It is repeatable: compose converges to the file. */
export function planChange(
  name: string,
  target: ComposeTarget,
  args: string[],
  timeout: Milliseconds,
  failure: StartStep['failure'] = {
    code: 'up-failed',
    remedy: 'Read the step’s output. Run "docker compose ps -a" on the host to see what runs.',
  },
  variant: ComposeVariant = {},
): StartStep {
  return {
    do: 'start',
    name,
    argv: target.compose(args, variant),
    cwd: target.dir,
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
