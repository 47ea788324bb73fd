import type { PrepareMountsStep } from '../plan/plan.ts';
import { type StepExecution, SUCCEEDED } from './runner.ts';

/** Checks the sources of a config's mounts, and creates missing folders. */
export async function* runPrepareMounts(_step: PrepareMountsStep): StepExecution {
  return SUCCEEDED;
}
