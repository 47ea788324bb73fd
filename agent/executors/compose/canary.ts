import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { explainSingle, requireService, strategyImpossible } from './side-by-side.ts';
import { PREPARE_STEP, planChange, planDockerCall, planPrepareMounts } from './steps.ts';
import { planRecreate, requireWayBack, type Strategy, type StrategyContext } from './strategy.ts';
import { planUndo } from './undo.ts';

/**
 * Starts one new container next to the old ones, then the other new ones, and removes the old ones last: the service
 * answers all the time. Throws Failure `strategy-impossible`, `service-unknown`.
 */
export function planCanary(context: StrategyContext): Strategy {
  const { intent, target, site, state, limits, next } = context;
  const name = intent.service ?? '';
  if (next.rendered) {
    const obstacle = explainSingle(name, requireService(next.rendered, name));
    if (obstacle) {
      throw strategyImpossible(
        'canary',
        obstacle,
        'Put a reverse proxy in front of the service instead of a fixed port, remove container_name, or use strategy: recreate.',
      );
    }
  }
  const old = (state.containers ?? []).filter(({ service }) => service === name);
  // No old container runs: a canary would have nothing to run next to.
  if (state.containers && !old.some(({ running }) => running)) return planRecreate(context);
  requireWayBack('canary', context);
  const config = next.of(target.name);
  const project = { ...target.whole, services: [name] };
  const scaleArgs = (to: number) => ['--detach', '--no-build', '--no-deps', '--scale', `${name}=${to}`, name];
  const planScaleUp = (step: string, to: number) =>
    planChange(step, config, ['up', '--no-recreate', ...scaleArgs(to)], limits.up, {
      code: 'canary-failed',
      remedy: `Read the step’s output.${state.containers ? ' The old containers still run.' : ''}`,
    });
  const count = Math.max(old.length, 1);
  // A dry run does not know the ids.
  const ids = state.containers ? old.map(({ id }) => id) : ['(the old containers)'];
  return {
    pulls: [name],
    steps: [
      ...planPrepareMounts(PREPARE_STEP, next, config, context),
      planScaleUp('canary', count + 1),
      planHealthCheck('wait for the canary', project, site, limits.healthy, { replicas: { [name]: count + 1 } }),
      ...planVerify(intent.verify, target.whole, site, { healthy: limits.healthy }),
      ...(count > 1
        ? [
            planScaleUp('the rest', 2 * count),
            planHealthCheck('wait for the rest', project, site, limits.healthy, { replicas: { [name]: 2 * count } }),
          ]
        : []),
      planDockerCall('stop the old', [site.docker, 'container', 'stop', ...ids], { changes: true, timeout: limits.up }),
      // Exit code 1: a container is gone already.
      planDockerCall('remove the old', [site.docker, 'container', 'rm', ...ids], { changes: true, okCodes: [0, 1] }),
      planHealthCheck('wait until healthy', project, site, limits.healthy, { replicas: { [name]: count } }),
    ],
    undo: planUndo(context, {
      tagsSince: 'pull',
      upSince: 'canary',
      up: scaleArgs(count),
      replicas: { [name]: count },
      additional: { step: 'stop the old', ids },
    }),
  };
}
