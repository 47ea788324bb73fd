import type { HostReader, Plan } from '../../plan/plan.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { checkStack } from './checked-config.ts';
import { readStackState, reviveOptions } from './current-state.ts';
import { compareScale, summarize } from './diff.ts';
import {
  PREPARE_AGAIN_STEP,
  PREPARE_STEP,
  parseLimits,
  planChange,
  planMeasure,
  planPrepareMounts,
  planTidy,
} from './steps.ts';
import { findTarget } from './target.ts';

type ScaleIntent = Extract<Intent, { action: 'scale' }>;

/** Plans a new number of containers for one service; `--no-deps` and `--no-recreate` leave all others as they are. */
export async function planScale(
  intent: ScaleIntent,
  { site, configs, wantsDiff }: PlanContext,
  host: HostReader,
): Promise<Plan> {
  const target = await findTarget(intent, site, host);
  const { service, replicas, stack, verify } = intent;
  const checked = await checkStack({ intent, target, site, configs, host }, { overlay: {} }, { as: 'next' });
  const config = checked.of(target.name);
  const state = await readStackState(stack, target, site, host);
  const runningBefore = state.containers?.filter(one => one.service === service && one.running).length;
  const limits = parseLimits(intent.timeout);
  const changes = wantsDiff ? await compareScale(intent, target, checked.rendered, host) : [];
  const planScaleTo = (name: string, to: number) =>
    planChange(
      name,
      config,
      ['up', '--detach', '--no-build', '--no-recreate', '--no-deps', '--scale', `${service}=${to}`, service],
      limits.up,
      {
        code: 'scale-failed',
        remedy:
          'Read the step’s output. A service with a container_name or a fixed published port can have only one container.',
      },
    );
  const prepare = planPrepareMounts(PREPARE_STEP, checked, config, { target, site, intent });
  const planHealthy = (name: string, to: number) =>
    planHealthCheck(name, target.project, site, limits.healthy, {
      replicas: { [service]: to },
      ...reviveOptions(prepare, planScaleTo('scale again', to), state),
    });
  const previousReplicas = runningBefore ?? 1;
  const planChecks = (again: boolean) =>
    planVerify(verify, target.whole, site, { healthy: limits.healthy, again }).map(step =>
      again ? { ...step, ifBegan: 'scale' } : step,
    );
  const prepareAgain = prepare.map(step => ({ ...step, name: PREPARE_AGAIN_STEP }));
  return {
    title: `scale ${service} on ${stack} to ${replicas}`,
    summary: wantsDiff ? summarize(changes, checked) : 'Not compared: the run applies what differs.',
    changes,
    steps: [
      planMeasure('before', target.project),
      ...prepare,
      planScaleTo('scale', replicas),
      planHealthy('wait until healthy', replicas),
      ...planChecks(false),
      planMeasure('after', target.project),
    ],
    undo:
      intent.on_failure === 'stop'
        ? [
            { ...planTidy('tidy up', target, site), ifCut: 'scale' },
            ...prepareAgain.map(step => ({ ...step, ifCut: 'scale' })),
            { ...planScaleTo('scale once more', replicas), ifCut: 'scale' },
          ]
        : [
            { ...planTidy('tidy up', target, site), ifBegan: 'scale' },
            ...prepareAgain.map(step => ({ ...step, ifBegan: 'scale' })),
            { ...planScaleTo('scale back', previousReplicas), ifBegan: 'scale' },
            { ...planHealthy('wait until healthy again', previousReplicas), ifBegan: 'scale' },
            ...planChecks(true),
            { ...planMeasure('after', target.project, 'images after undo'), ifBegan: 'scale' },
          ],
    cleanup: [],
    ...(checked.warnings.length === 0 ? {} : { warnings: checked.warnings }),
  };
}
