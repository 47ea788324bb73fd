import type { SecretKey } from '../../protocol/keys.ts';
import type { HostSite } from '../executors/executor.ts';
import { type ContainerListing, composeContainersPath } from '../plan/containers.ts';
import type { HostReader } from '../plan/plan.ts';
import type { RunStore, StoredRun } from '../store/runs.ts';
import { signReceipt } from './receipt.ts';

export interface InterruptDeps {
  agent: string;
  keys: () => readonly SecretKey[];
  store: RunStore;
  look: HostReader;
  site: () => HostSite;
  now: () => string;
}

/** Ends a run that this version cannot resume. Its note and receipt list the containers that exist now. */
export async function endInterruptedRun(run: StoredRun, deps: InterruptDeps): Promise<void> {
  const { agent, keys, store } = deps;
  const containers = await describeContainers(run, deps);
  const now = deps.now();
  const text = `The agent ended while this run was in progress, and this version cannot resume it.${containers}`;
  store.append(run.id, { kind: 'note', level: 'error', text }, now);
  const { events, head } = store.find(run.id) ?? run;
  const receipt = signReceipt(
    {
      run: run.id,
      agent,
      outcome: 'interrupted',
      reason: 'agent-ended',
      message: `The agent ended while this run was ${run.state}, and this version cannot resume it. The result of its last step is not known.${containers}`,
      remedy: 'Look at the stack on the host ("docker compose ps -a" in its folder), then run the intent again.',
      changed: run.state === 'running',
      documents: [],
      events,
      events_digest: head,
      started_at: run.createdAt,
      finished_at: now,
    },
    keys(),
  );
  store.end(run.id, 'interrupted', receipt, now);
}

/** Returns a sentence with each container of the run's stacks and its status; empty if the run has no stack. */
async function describeContainers(run: StoredRun, { look: host, site }: InterruptDeps): Promise<string> {
  const { intents = [] } = JSON.parse(run.command) as { intents?: { intent?: { stack?: unknown } }[] };
  const stacks = new Set(intents.flatMap(({ intent }) => (typeof intent?.stack === 'string' ? [intent.stack] : [])));
  const lines: string[] = [];
  for (const stack of stacks) {
    const listed = await host
      .engine(composeContainersPath({ dir: `${site().stacksRoot}/${stack}` }))
      .catch(() => undefined);
    const containers = (listed ?? []) as ContainerListing[];
    const statuses = containers.map(({ Names, Status }) => `${Names[0]?.slice(1)} (${Status})`).join(', ');
    lines.push(`${stack}: ${listed === undefined ? 'the engine does not answer' : statuses || 'no container'}`);
  }
  return lines.length === 0 ? '' : ` Containers now: ${lines.join('; ')}.`;
}
