import type { HostReader, Plan } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import { chooseProjectNames, type ProjectNames, planBlueGreen } from './blue-green.ts';
import { planCanary } from './canary.ts';
import { checkBefore, checkStack, describeOneWay } from './checked-config.ts';
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
import { requireBuiltImages } from './required-images.ts';
import { planShipment } from './ship-files.ts';
import { parseLimits, planMeasure, planPull, planTidy } from './steps.ts';
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
  const names = intent.strategy === 'blue-green' ? chooseProjectNames(target, state) : undefined;
  const unpublished =
    names && intent.switch && 'service' in intent.switch
      ? { service: intent.switch.service, project: names.next }
      : undefined;
  const checkContext = { intent, target, site, configs: context.configs, host };
  const green = names !== undefined || target.name !== target.ownName;
  const next = await checkStack(checkContext, { overlay: shipment.overlay }, { as: 'next', green, unpublished });
  if (next.rendered)
    await requireBuiltImages(
      next.rendered,
      { service: intent.service, profiles: next.base.profiles },
      names?.next ?? target.name,
      host,
    );
  const before = await checkBefore(checkContext, state, shipment, next, green);
  const strategyContext: StrategyContext = {
    ...context,
    ...{ intent, target, state, shipment, next, before },
    limits: parseLimits(intent.timeout),
  };
  const strategy = planStrategy(strategyContext, names);
  const newTarget = strategy.after ?? target;
  const shipped = shipment.step ? files.map(({ path, mode, sha256 }) => ({ path, mode, sha256 })) : shipment.earlier;
  const changes = wantsDiff ? await compareStack(intent, next.of(target.name), next.rendered, shipment, host) : [];
  const isFirst = state.releases.length === 0 && (state.containers ?? []).length > 0;
  const { oneWay } = describeOneWay(before, intent);
  return {
    title: `rollout${intent.service === undefined ? '' : ` ${intent.service}`} on ${intent.stack}`,
    summary: describeChanges(
      wantsDiff ? summarize(changes, next) : 'Not compared: the run applies what differs.',
      oneWay,
    ),
    changes,
    steps: [
      planMeasure('before', target.project),
      ...(isFirst && before && 'stack' in before
        ? [
            planRemember('remember what ran', intent.stack, target, site, {
              files: shipment.earlier,
              config: before.stack.base,
              as: FIRST_RELEASE,
            }),
          ]
        : []),
      ...(shipment.step ? [shipment.step] : []),
      ...planKeepImages(intent.stack, state, site),
      planPull(
        next.of(target.name),
        next.rendered,
        strategy.pulls,
        strategyContext.limits.pull,
        describeUnchanged(state, strategy.pulls),
      ),
      ...(state.leftovers ? [planTidy('tidy', target, site)] : []),
      ...strategy.steps,
      planMeasure('after', newTarget.project),
      planRemember('remember the release', intent.stack, newTarget, site, {
        files: shipped,
        config: next.base,
        ...restorePoints,
      }),
    ],
    undo: strategy.undo,
    cleanup: planForgetImages(intent.stack, state, site),
    late: planLateUndo(strategyContext),
    ...(oneWay === undefined ? {} : { oneWay }),
    ...(points.length === 0 ? {} : { restorePoints: points }),
    ...(next.warnings.length === 0 ? {} : { warnings: next.warnings }),
  };
}

function planStrategy(context: StrategyContext, names: ProjectNames | undefined): Strategy {
  if (names) return planBlueGreen(context, names);
  return context.intent.strategy === 'canary' ? planCanary(context) : planRecreate(context);
}

function describeChanges(changes: string, oneWay: string | undefined): string {
  return oneWay === undefined ? changes : `${changes} A failure after the start is not undone. ${oneWay}`;
}
