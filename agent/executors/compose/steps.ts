import type { AwaitHealthy, Measure, Milliseconds, Start } from '../../plan.ts';
import type { Target } from './target.ts';

const MINUTE = 60_000;
/** How long a container without a health check must have been running to count. */
const SETTLE = 2_000;
const UNITS: Record<string, number> = { ms: 1, s: 1000, m: MINUTE, h: 60 * MINUTE, d: 1440 * MINUTE };

/** How long each long step may take; an intent's `timeout` bounds them all. */
export function limits(timeout: string | undefined): { pull: Milliseconds; up: Milliseconds; healthy: Milliseconds } {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(timeout ?? '') ?? [];
  if (count === undefined || unit === undefined) return { pull: 20 * MINUTE, up: 10 * MINUTE, healthy: 5 * MINUTE };
  const given = Number(count) * (UNITS[unit] ?? MINUTE);
  return { pull: given, up: given, healthy: given };
}

export function checkConfig(target: Target): Start {
  return {
    do: 'start',
    name: 'check config',
    argv: target.compose('config', '--quiet'),
    cwd: target.dir,
    timeout: MINUTE,
    failure: { code: 'compose-invalid', remedy: 'Correct the compose file. Nothing was started.' },
  };
}

export function awaitHealthy(
  name: string,
  target: Target,
  timeout: Milliseconds,
  replicas?: Record<string, number>,
): AwaitHealthy {
  return {
    do: 'await-healthy',
    name,
    project: target.project,
    settle: SETTLE,
    timeout,
    ...(replicas ? { replicas } : {}),
  };
}

export function measure(as: 'before' | 'after', target: Target): Measure {
  return { do: 'measure', name: `images ${as}`, what: 'images', as, project: target.project };
}
