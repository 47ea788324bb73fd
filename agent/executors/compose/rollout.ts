import type { HostReader, Plan } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import { planBlueGreen } from './blue-green.ts';
import { planCanary } from './canary.ts';
import {
  describeUnchanged,
  FIRST_RELEASE,
  planForgetImages,
  planKeepImages,
  planRemember,
  readStackState,
} from './current-state.ts';
import { compareStack, summarize } from './diff.ts';
import { findRestorePoints } from './required-backups.ts';
import { planShipment } from './ship-files.ts';
import { parseLimits, planConfigCheck, planMeasure, planPull, planTidy } from './steps.ts';
import { planRecreate, type RolloutIntent, type Strategy, type StrategyContext } from './strategy.ts';
import { findTarget } from './target.ts';
import { planLateUndo } from './undo.ts';

export async function planRollout(intent: RolloutIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, files, wantsDiff } = context;
  const points = findRestorePoints(intent, context);
  const restorePoints = points.length === 0 ? {} : { points };
  const target = await findTarget(intent, site, host, files);
  const [shipment, state] = await Promise.all([
    planShipment(target.dir, intent.stack, files, site, host),
    readStackState(intent.stack, target, site, host),
  ]);
  const strategyContext: StrategyContext = {
    ...context,
    intent,
    target,
    state,
    shipment,
    limits: parseLimits(intent.timeout),
    host,
  };
  const strategy = await planStrategy(strategyContext);
  const newTarget = strategy.after ?? target;
  const shipped = shipment.step ? files.map(({ path, mode, sha256 }) => ({ path, mode, sha256 })) : shipment.earlier;
  const changes = wantsDiff ? await compareStack(intent, target, shipment, site, host) : [];
  const isFirst = state.releases.length === 0 && (state.containers ?? []).length > 0;
  return {
    title: `rollout${intent.service === undefined ? '' : ` ${intent.service}`} on ${intent.stack}`,
    summary: wantsDiff ? summarize(changes) : 'Not compared: the run applies what differs.',
    changes,
    steps: [
      planMeasure('before', target.project),
      ...(isFirst
        ? [
            planRemember('remember what ran', intent.stack, target, site, {
              files: shipment.earlier,
              as: FIRST_RELEASE,
            }),
          ]
        : []),
      ...(shipment.step ? [shipment.step] : []),
      planConfigCheck(intent.stack, target, site),
      ...planKeepImages(intent.stack, state, site),
      planPull(target, strategy.pulls, strategyContext.limits.pull, describeUnchanged(state, strategy.pulls)),
      ...(state.leftovers ? [planTidy('tidy', target, site)] : []),
      ...strategy.steps,
      planMeasure('after', newTarget.project),
      planRemember('remember the release', intent.stack, newTarget, site, { files: shipped, ...restorePoints }),
    ],
    undo: strategy.undo,
    cleanup: planForgetImages(intent.stack, state, site),
    late: planLateUndo(strategyContext),
    ...(points.length === 0 ? {} : { restorePoints: points }),
  };
}

function planStrategy(strategyContext: StrategyContext): Promise<Strategy> {
  switch (strategyContext.intent.strategy) {
    case 'canary':
      return planCanary(strategyContext);
    case 'blue-green':
      return planBlueGreen(strategyContext);
    default:
      return planRecreate(strategyContext);
  }
}
