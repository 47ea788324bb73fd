import type { HostReader, Plan } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import { planBlueGreen } from './blue-green.ts';
import { planCanary } from './canary.ts';
import { FIRST_RELEASE, planForgetImages, planKeepImages, planRemember, readStackState } from './current-state.ts';
import { compareStack, summarize } from './diff.ts';
import { findRestorePoints } from './required-backups.ts';
import { planShipment } from './ship-files.ts';
import { parseLimits, planConfigCheck, planMeasure, planPull, planTidy } from './steps.ts';
import { planRecreate, type RolloutIntent, type Strategy, type StrategyContext } from './strategy.ts';
import { findTarget } from './target.ts';
import { planLateUndo } from './undo.ts';

export async function planRollout(intent: RolloutIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, files, wantsDiff } = context;
  const points = findRestorePoints(intent, context);
  const tied = points.length === 0 ? {} : { points };
  const target = await findTarget(intent, site, look, files);
  const [shipment, now] = await Promise.all([
    planShipment(target.dir, intent.stack, files, site, look),
    readStackState(intent.stack, target, site, look),
  ]);
  const ground: StrategyContext = {
    ...context,
    intent,
    target,
    now,
    shipment,
    time: parseLimits(intent.timeout),
    look,
  };
  const strategy = await strategyOf(ground);
  const after = strategy.after ?? target;
  const shipped = shipment.step ? files.map(({ path, mode, sha256 }) => ({ path, mode, sha256 })) : shipment.earlier;
  const changes = wantsDiff ? await compareStack(intent, target, shipment, site, look) : [];
  const isFirst = now.releases.length === 0 && (now.containers ?? []).length > 0;
  return {
    title: `rollout${intent.service === undefined ? '' : ` ${intent.service}`} on ${intent.stack}`,
    summary: wantsDiff ? summarize(changes) : 'Not compared: a run finds out by doing it.',
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
      ...planKeepImages(intent.stack, now, site),
      planPull(target, strategy.pulls, ground.time.pull),
      ...(now.leftovers ? [planTidy('tidy', target, site)] : []),
      ...strategy.steps,
      planMeasure('after', after.project),
      planRemember('remember the release', intent.stack, after, site, { files: shipped, ...tied }),
    ],
    undo: strategy.undo,
    cleanup: planForgetImages(intent.stack, now, site),
    late: planLateUndo(ground),
    ...(points.length === 0 ? {} : { restorePoints: points }),
  };
}

function strategyOf(ground: StrategyContext): Promise<Strategy> {
  switch (ground.intent.strategy) {
    case 'canary':
      return planCanary(ground);
    case 'blue-green':
      return planBlueGreen(ground);
    default:
      return planRecreate(ground);
  }
}
