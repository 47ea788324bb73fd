import type { Look, Plan } from '../../plan/plan.ts';
import type { Context } from '../executor.ts';
import { planBlueGreen } from './blue-green.ts';
import { planCanary } from './canary.ts';
import { FIRST_RELEASE, forgetImages, keepImages, lookNow, remember } from './current-state.ts';
import { compareStack, summarize } from './diff.ts';
import { restorePoints } from './required-backups.ts';
import { planShipment } from './ship-files.ts';
import { checkConfig, limits, measure, pull, tidy } from './steps.ts';
import { type Ground, type Rollout, recreate, type Strategy } from './strategy.ts';
import { findTarget } from './target.ts';
import { undoneLate } from './undo.ts';

export async function planRollout(intent: Rollout, context: Context, look: Look): Promise<Plan> {
  const { site, files, compare } = context;
  const points = restorePoints(intent, context);
  const tied = points.length === 0 ? {} : { points };
  const target = await findTarget(intent, site, look, files);
  const [shipment, now] = await Promise.all([
    planShipment(target.dir, intent.stack, files, site, look),
    lookNow(intent.stack, target, site, look),
  ]);
  const ground: Ground = { ...context, intent, target, now, shipment, time: limits(intent.timeout), look };
  const strategy = await strategyOf(ground);
  const after = strategy.after ?? target;
  const shipped = shipment.step ? files.map(({ path, mode, sha256 }) => ({ path, mode, sha256 })) : shipment.earlier;
  const changes = compare ? await compareStack(intent, target, shipment, site, look) : [];
  const isFirst = now.releases.length === 0 && (now.containers ?? []).length > 0;
  return {
    title: `rollout${intent.service === undefined ? '' : ` ${intent.service}`} on ${intent.stack}`,
    summary: compare ? summarize(changes) : 'Not compared: a run finds out by doing it.',
    changes,
    steps: [
      measure('before', target.project),
      ...(isFirst
        ? [
            remember('remember what ran', intent.stack, target, site, {
              files: shipment.earlier,
              as: FIRST_RELEASE,
            }),
          ]
        : []),
      ...(shipment.step ? [shipment.step] : []),
      checkConfig(intent.stack, target, site),
      ...keepImages(intent.stack, now, site),
      pull(target, strategy.pulls, ground.time.pull),
      ...(now.leftovers ? [tidy('tidy', target, site)] : []),
      ...strategy.steps,
      measure('after', after.project),
      remember('remember the release', intent.stack, after, site, { files: shipped, ...tied }),
    ],
    undo: strategy.undo,
    cleanup: forgetImages(intent.stack, now, site),
    late: undoneLate(ground),
    ...(points.length === 0 ? {} : { restorePoints: points }),
  };
}

function strategyOf(ground: Ground): Promise<Strategy> {
  switch (ground.intent.strategy) {
    case 'canary':
      return planCanary(ground);
    case 'blue-green':
      return planBlueGreen(ground);
    default:
      return recreate(ground);
  }
}
