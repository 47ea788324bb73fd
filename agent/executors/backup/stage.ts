import type { Step } from '../../plan/plan.ts';

/** Steps that belong together, and the steps that remove their traces when the plan ends. */
export interface Stage {
  steps: Step[];
  cleanup: Step[];
}

export const EMPTY_STAGE: Stage = { steps: [], cleanup: [] };
