import type { Plan, StartStep, Step } from '../../agent/plan/plan.ts';

/** Returns a step that runs the code with Node. */
export const program = (code: string, changes: Partial<StartStep> = {}): StartStep => ({
  do: 'start',
  name: 'program',
  argv: [process.execPath, '--eval', code],
  timeout: 20_000,
  failure: { code: 'program-failed', remedy: 'Look at it.' },
  ...changes,
});

export const planOf = (steps: Step[], rest: Partial<Plan> = {}): Plan => ({
  title: 't',
  summary: 's',
  changes: [],
  steps,
  undo: [],
  cleanup: [],
  ...rest,
});
