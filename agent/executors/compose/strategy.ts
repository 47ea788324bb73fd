import type { Look, Step } from '../../plan.ts';
import type { Context, Intent } from '../executor.ts';
import { type Now, revive } from './now.ts';
import type { Shipment } from './ship.ts';
import { awaitHealthy, change, type Limits } from './steps.ts';
import type { Target } from './target.ts';
import { planUndo } from './undo.ts';
import { verifySteps } from './verify.ts';

export type Rollout = Extract<Intent, { action: 'rollout' }>;

/** What every strategy is planned from. */
export interface Ground extends Context {
  intent: Rollout;
  target: Target;
  now: Now;
  shipment: Shipment;
  time: Limits;
  look: Look;
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
export async function recreate({ intent, target, site, now, shipment, time, look }: Ground): Promise<Strategy> {
  const who = intent.service === undefined ? [] : [intent.service];
  const up = ['--detach', '--no-build', '--remove-orphans', ...who];
  const bringUp = change('up', target, ['up', ...up], time.up);
  return {
    pulls: who,
    steps: [
      bringUp,
      awaitHealthy('wait until healthy', target.project, time.healthy, revive(bringUp, now)),
      ...verifySteps(intent.verify, target.whole, { allow: site.verify, healthy: time.healthy }),
    ],
    undo: await planUndo(
      {
        stack: intent.stack,
        target,
        site,
        now,
        shipment,
        time,
        verify: intent.verify,
        onFailure: intent.on_failure,
        tagsSince: 'pull',
        upSince: 'up',
        up,
      },
      look,
    ),
  };
}
