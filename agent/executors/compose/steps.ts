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
/** A pull that has said nothing and moved nothing for so long hangs. */
const PULL_STALL = 5 * MINUTE;

/** The engine is being started again. */
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
/** What a killed or a second compose leaves behind for a while: the engine still works on it. */
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

/** How long each long step may take; an intent's `timeout` bounds them all. */
export function parseLimits(timeout: string | undefined): StepLimits {
  if (timeout === undefined) return { pull: 20 * MINUTE, up: 10 * MINUTE, healthy: 5 * MINUTE };
  const limit = parseDuration(timeout);
  return { pull: limit, up: limit, healthy: limit };
}

/** `stack`: whose grants count. */
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

/** `unchanged` says what is true of the stack when the pull fails. */
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

/** A compose command that changes what runs. Twice is as good as once: compose brings the stack to what its file says. */
export function planChange(
  name: string,
  target: ComposeTarget,
  args: string[],
  timeout: Milliseconds,
  failure: StartStep['failure'] = {
    code: 'up-failed',
    remedy: 'Read the step’s output; "docker compose ps -a" on the host tells what runs.',
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

/** A docker command on containers or images by id. */
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

/** What a killed compose left half made goes before compose is asked again: it would take the leftover for the service. */
export function planTidy(name: string, target: ComposeTarget, site: HostSite): TidyStep {
  return { do: 'tidy', name, project: target.whole, docker: site.docker, timeout: 2 * MINUTE };
}

export function planMeasure(as: 'before' | 'after', project: ComposeProject, name = `images ${as}`): MeasureStep {
  return { do: 'measure', name, what: 'images', as, project };
}
