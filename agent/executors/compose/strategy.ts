import type { Step } from '../../plan/plan.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { reviveOptions } from './current-state.ts';
import { planChange } from './steps.ts';
import type { ComposeTarget } from './target.ts';
import { planUndo, type UndoContext as WayBack } from './undo.ts';

export type RolloutIntent = Extract<Intent, { action: 'rollout' }>;

/** What every strategy is planned from. */
export interface StrategyContext extends PlanContext, WayBack {
  intent: RolloutIntent;
}

/** What a strategy puts between the images' arrival and the last look at them, and its way back. */
export interface Strategy {
  /** What is pulled: services, or all. */
  pulls: string[];
  steps: Step[];
  undo: Step[];
  /** What is measured and remembered at the end, where it is not the target's project. */
  after?: ComposeTarget;
}

/** Compose replaces what differs. */
export async function planRecreate(context: StrategyContext): Promise<Strategy> {
  const { intent, target, site, state, limits } = context;
  const services = intent.service === undefined ? [] : [intent.service];
  const up = ['--detach', '--no-build', '--remove-orphans', ...services];
  const bringUp = planChange('up', target, ['up', ...up], limits.up);
  return {
    pulls: services,
    steps: [
      bringUp,
      planHealthCheck('wait until healthy', target.project, limits.healthy, reviveOptions(bringUp, state)),
      ...planVerify(intent.verify, target.whole, { allow: site.verify, healthy: limits.healthy }),
    ],
    undo: await planUndo(context, { tagsSince: 'pull', upSince: 'up', up }),
  };
}
