import type { AwaitHealthyStep, SettleStep } from '../plan/plan.ts';
import { countOrders } from '../system/supervisor.ts';
import { awaitHealthy, type HealthResult, settle } from './health.ts';
import { runPrepareMounts } from './prepare-mounts.ts';
import { type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';
import { runStart } from './start.ts';

/** Times that one step brings a stack up again. */
const MAX_REVIVALS = 3;

/** Waits for health, and brings up again the containers that the engine was still stopping. */
export async function* runAwaitHealthy(step: AwaitHealthyStep, context: StepContext): StepExecution {
  const { engine, signal, supervisor, redactor } = context;
  const redact = (text: string) => redactor.text(text);
  const deadline = performance.now() + step.timeout;
  for (let revivals = 0; ; revivals++) {
    const base = `${context.base}-up${revivals + 1}`;
    const orders = countOrders(base);
    if (orders > 0) {
      // An earlier agent ordered this one.
      await supervisor.find(`${base}-${orders}`).exited;
      continue;
    }
    const timeout = Math.max(deadline - performance.now(), 1_000);
    const mayRevive = step.revive !== undefined && revivals < MAX_REVIVALS;
    const result = yield* reportHealth(awaitHealthy(engine, { ...step, timeout }, signal, redact, mayRevive));
    if (result.code !== 'service-stopped' || !step.revive) return result;
    yield { text: 'Docker was still stopping the container; running "up" again.\n' };
    for (const prepare of step.revive.prepare) {
      const prepared = yield* runPrepareMounts(prepare, context);
      if (prepared.outcome !== 'succeeded') return prepared;
    }
    const up = yield* runStart(step.revive.up, { ...context, base, resumed: undefined });
    if (up.outcome !== 'succeeded') return up;
  }
}

export function runSettle(step: SettleStep, { engine, signal, redactor }: StepContext): StepExecution {
  return reportHealth(settle(engine, step, signal, text => redactor.text(text)));
}

async function* reportHealth(watch: AsyncGenerator<string, HealthResult>): StepExecution {
  let next = await watch.next();
  for (; !next.done; next = await watch.next()) yield { text: next.value };
  const { ok, ...why } = next.value;
  if (ok) return SUCCEEDED;
  return { outcome: why.code === 'cancelled' ? 'cancelled' : 'failed', ...why };
}
