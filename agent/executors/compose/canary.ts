import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { explainSingle, renderConfig, requireService, strategyImpossible } from './render.ts';
import { planChange, planDockerCall } from './steps.ts';
import { planRecreate, type Strategy, type StrategyContext } from './strategy.ts';
import { planUndo } from './undo.ts';

/**
 * One new container beside the old ones, then the rest of the new ones, and the old ones go last: the service answers all
 * the time. Throws Failure `strategy-impossible`, `service-unknown`.
 */
export async function planCanary(ground: StrategyContext): Promise<Strategy> {
  const { intent, target, site, now, time } = ground;
  const name = intent.service ?? '';
  const rendered = await renderConfig(ground);
  if (rendered) {
    const why = explainSingle(name, requireService(rendered, name));
    if (why) {
      throw strategyImpossible(
        'canary',
        why,
        'Put a reverse proxy before the service in place of a fixed port, take container_name out, or use strategy: recreate.',
      );
    }
  }
  const old = (now.containers ?? []).filter(({ service }) => service === name);
  // Nothing to be beside of.
  if (now.containers && !old.some(({ running }) => running)) return planRecreate(ground);
  const project = { ...target.whole, services: [name] };
  const scaled = (to: number) => ['--detach', '--no-build', '--no-deps', '--scale', `${name}=${to}`, name];
  const beside = (step: string, to: number) =>
    planChange(step, target, ['up', '--no-recreate', ...scaled(to)], time.up, {
      code: 'canary-failed',
      remedy: 'Read the step’s output. The old containers still run.',
    });
  const many = Math.max(old.length, 1);
  // A dry run does not know them.
  const ids = now.containers ? old.map(({ id }) => id) : ['(the old containers)'];
  return {
    pulls: [name],
    steps: [
      beside('canary', many + 1),
      planHealthCheck('wait for the canary', project, time.healthy, { replicas: { [name]: many + 1 } }),
      ...planVerify(intent.verify, target.whole, { allow: site.verify, healthy: time.healthy }),
      ...(many > 1
        ? [
            beside('the rest', 2 * many),
            planHealthCheck('wait for the rest', project, time.healthy, { replicas: { [name]: 2 * many } }),
          ]
        : []),
      planDockerCall('stop the old', [site.docker, 'container', 'stop', ...ids], { changes: true, timeout: time.up }),
      // 1: one is gone already.
      planDockerCall('remove the old', [site.docker, 'container', 'rm', ...ids], { changes: true, okCodes: [0, 1] }),
      planHealthCheck('wait until healthy', project, time.healthy, { replicas: { [name]: many } }),
    ],
    undo: await planUndo(ground, {
      tagsSince: 'pull',
      upSince: 'canary',
      up: scaled(many),
      replicas: { [name]: many },
      beside: { step: 'stop the old', ids },
    }),
  };
}
