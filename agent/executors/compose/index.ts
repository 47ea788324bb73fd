import { defineExecutor, listVerifyHosts } from '../executor.ts';
import { planRollback } from './rollback.ts';
import { planRollout } from './rollout.ts';
import { planScale } from './scale.ts';
import { listStackClaims, type StackIntent } from './target.ts';

const STACK_ACTIONS: readonly string[] = ['rollout', 'scale', 'rollback'];

/** Docker Compose stacks: rollout, scale and rollback. */
export const compose = defineExecutor<StackIntent>({
  kind: 'compose',
  takes: (intent): intent is StackIntent => STACK_ACTIONS.includes(intent.action),
  subjects: intent => [`stack ${intent.stack}`],
  claims: listStackClaims,
  asks: intent => (intent.verify ? listVerifyHosts(intent.verify) : []),
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
});
