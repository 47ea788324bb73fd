import type { Step } from '../../plan/plan.ts';
import type { Context, Intent } from '../executor.ts';
import { healthStep, verifySteps } from '../verify-steps.ts';
import { revive } from './current-state.ts';
import { change } from './steps.ts';
import type { Target } from './target.ts';
import { planUndo, type Ground as WayBack } from './undo.ts';

export type Rollout = Extract<Intent, { action: 'rollout' }>;

/** What every strategy is planned from. */
export interface Ground extends Context, WayBack {
  intent: Rollout;
}

/** What a strategy puts between the images' arrival and the last look at them, and its way back. */
export interface Strategy {
  /** What is pulled: services, or all. */
  pulls: string[];
  steps: Step[];
  undo: Step[];
  /** What is measured and remembered at the end, where it is not the target's project. */
  after?: Target;
}

/** Compose replaces what differs. */
export async function recreate(ground: Ground): Promise<Strategy> {
  const { intent, target, site, now, time } = ground;
  const who = intent.service === undefined ? [] : [intent.service];
  const up = ['--detach', '--no-build', '--remove-orphans', ...who];
  const bringUp = change('up', target, ['up', ...up], time.up);
  return {
    pulls: who,
    steps: [
      bringUp,
      healthStep('wait until healthy', target.project, time.healthy, revive(bringUp, now)),
      ...verifySteps(intent.verify, target.whole, { allow: site.verify, healthy: time.healthy }),
    ],
    undo: await planUndo(ground, { tagsSince: 'pull', upSince: 'up', up }),
  };
}
