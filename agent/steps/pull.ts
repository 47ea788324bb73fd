import { circuitOpenRefusal, isRegistryDown } from '../outbound/circuit-breaker.ts';
import type { StartStep } from '../plan/plan.ts';
import { failedResult, type StepContext, type StepExecution } from './runner.ts';
import { runStart } from './start.ts';

/** Runs a pull unless the circuit of one of its registries is open, and counts their failures. */
export async function* runPull(step: StartStep, context: StepContext): StepExecution {
  const { circuits, resumed } = context;
  const hosts = step.registries ?? [];
  const open = resumed ? undefined : hosts.map(host => circuits?.open(circuitOf(host))).find(Boolean);
  if (open) return failedResult(circuitOpenRefusal(open));
  const result = yield* runStart(step, context);
  const { outcome, message = '' } = result;
  if (outcome === 'succeeded') for (const host of hosts) circuits?.succeeded(circuitOf(host));
  if (outcome === 'failed' && isRegistryDown(message)) {
    const named = hosts.filter(host => message.includes(host));
    for (const host of named.length > 0 ? named : hosts) circuits?.failed(circuitOf(host));
  }
  return result;
}

function circuitOf(host: string): string {
  return `registry ${host}`;
}
