import type { Executor, Intent } from '../executor.ts';
import { planRollout } from './rollout.ts';
import { planScale } from './scale.ts';
import { claimsOf } from './target.ts';

type OnStack = Extract<Intent, { action: 'rollout' | 'scale' }>;

/** Docker Compose stacks: rollout and scale. */
export const compose: Executor<OnStack> = {
  kind: 'compose',
  takes: (intent): intent is OnStack => intent.action === 'rollout' || intent.action === 'scale',
  subject: intent => `stack ${intent.stack}`,
  claims: claimsOf,
  plan: (intent, context, look) =>
    intent.action === 'rollout' ? planRollout(intent, context, look) : planScale(intent, context, look),
};
