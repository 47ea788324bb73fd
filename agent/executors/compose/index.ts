import { type Executor, hostsOf } from '../executor.ts';
import { planRollback } from './rollback.ts';
import { planRollout } from './rollout.ts';
import { planScale } from './scale.ts';
import { claimsOf, type OnStack } from './target.ts';

const ACTIONS: readonly string[] = ['rollout', 'scale', 'rollback'];

/** Docker Compose stacks: rollout, scale and rollback. */
export const compose: Executor<OnStack> = {
  kind: 'compose',
  takes: (intent): intent is OnStack => ACTIONS.includes(intent.action),
  subjects: intent => [`stack ${intent.stack}`],
  claims: claimsOf,
  asks: intent => (intent.verify ? hostsOf(intent.verify) : []),
  plan: (intent, context, look) => {
    switch (intent.action) {
      case 'rollout':
        return planRollout(intent, context, look);
      case 'scale':
        return planScale(intent, context, look);
      case 'rollback':
        return planRollback(intent, context, look);
    }
  },
};
