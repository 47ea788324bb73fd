import type { Step } from '../../plan/plan.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { reviveOptions } from './current-state.ts';
import { strategyImpossible } from './side-by-side.ts';
import { PREPARE_STEP, planChange, planPrepareMounts } from './steps.ts';
import type { ComposeTarget } from './target.ts';
import { planUndo, type UndoContext } from './undo.ts';

export type RolloutIntent = Extract<Intent, { action: 'rollout' }>;

/** Input of every strategy. */
export interface StrategyContext extends PlanContext, UndoContext {
  intent: RolloutIntent;
}

/** The steps of a strategy between the pull and the last measurement, and their undo. */
export interface Strategy {
  /** Services to pull; all if empty. */
  pulls: string[];
  steps: Step[];
  undo: Step[];
  /** The stack to measure and record at the end, if it is not the target. */
  after?: ComposeTarget;
}

/** Plans the strategy `recreate`: compose replaces the containers that differ. */
export function planRecreate(context: StrategyContext): Strategy {
  const { intent, target, site, state, limits, next } = context;
  const services = intent.service === undefined ? [] : [intent.service];
  const up = ['--detach', '--no-build', '--remove-orphans', ...services];
  const bringUp = planChange('up', next.of(target.name), ['up', ...up], limits.up);
  const prepare = planPrepareMounts(PREPARE_STEP, next, next.of(target.name), context);
  return {
    pulls: services,
    steps: [
      ...prepare,
      bringUp,
      planHealthCheck(
        'wait until healthy',
        target.project,
        site,
        limits.healthy,
        reviveOptions(prepare, bringUp, state),
      ),
      ...planVerify(intent.verify, target.whole, site, { healthy: limits.healthy }),
    ],
    undo: planUndo(context, { tagsSince: 'pull', upSince: 'up', up }),
  };
}

/** A strategy that keeps the old containers until the new ones serve needs a version to bring back. Throws Failure `strategy-impossible`. */
export function requireWayBack(strategy: string, { before }: StrategyContext): void {
  if (!before || !('refused' in before)) return;
  throw strategyImpossible(
    strategy,
    `the version that runs could not be brought back (${before.refused})`,
    'Use strategy: recreate for this rollout.',
  );
}
