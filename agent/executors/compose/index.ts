import { defineExecutor, listVerifyHosts } from '../executor.ts';
import { planRollback } from './rollback.ts';
import { planRollout } from './rollout.ts';
import { planScale } from './scale.ts';
import { listStackClaims, type StackIntent } from './target.ts';

const STACK_ACTIONS: readonly string[] = ['rollout', 'scale', 'rollback'];

/** Docker Compose stacks: rollout, scale and rollback. */
export const compose = defineExecutor<StackIntent>({
  kind: 'compose',
  supports: (intent): intent is StackIntent => STACK_ACTIONS.includes(intent.action),
  lockSubjects: intent => [`stack ${intent.stack}`],
  claimPaths: listStackClaims,
  listHosts: intent => (intent.verify ? listVerifyHosts(intent.verify) : []),
  plan: (intent, context, host) => {
    switch (intent.action) {
      case 'rollout':
        return planRollout(intent, context, host);
      case 'scale':
        return planScale(intent, context, host);
      case 'rollback':
        return planRollback(intent, context, host);
    }
  },
});
