import type { Deployment } from '../../protocol/command.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { Admission } from '../admission/admit.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { AuditObserver } from '../observability/audit.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { NoticeObserver } from '../observability/notify/observer.ts';
import { refusals } from '../refusals.ts';
import type { RunRegistry } from '../runs/registry.ts';
import type { RunStore } from '../store/runs.ts';
import { WebhookHandler } from './hooks.ts';
import { createHostCommand, readIntents } from './host-command.ts';
import { Scheduler } from './schedules.ts';

/** The parts of the agent that start runs of schedules and hooks. */
export interface HostRunDeps {
  live: Live<Config>;
  admission: Admission;
  store: RunStore;
  runs: RunRegistry;
  audit: AuditObserver;
  metrics: Metrics;
  notices: NoticeObserver;
}

/** Creates the scheduler of agent.yaml's schedules. The caller starts it. */
export function createScheduler(deps: HostRunDeps): Scheduler {
  return new Scheduler({
    schedules: () => deps.live.current.schedules,
    state: name => deps.store.schedule(name),
    save: (name, state) => deps.store.putSchedule(name, state),
    start: ({ intent, params, name }, run) => startHostRun(deps, 'schedule', { intent, params, name, run }),
    isRunning(run) {
      const stored = deps.store.find(run);
      return stored !== undefined && stored.state !== 'ended';
    },
    report(event, facts) {
      deps.metrics.scheduled(facts.schedule, event.replace('schedule-', ''));
      deps.audit.write(event, facts);
      if (facts.why === undefined) return;
      console.error(`schedule ${facts.schedule}: ${facts.why}`);
      if (event === 'schedule-failed') deps.notices.scheduleFailed(facts.schedule, facts.why);
    },
  });
}

/** Creates the handler of agent.yaml's hooks. */
export function createWebhookHandler(deps: HostRunDeps): WebhookHandler {
  return new WebhookHandler({
    hooks: () => deps.live.current.hooks,
    history: (hook, since) => deps.store.countHookRuns(entryFor(deps.live.current, 'webhook').name, hook, since),
    start: ({ intent, name }, run, params) => startHostRun(deps, 'webhook', { intent, params, name, run }),
  });
}

/** Returns the trust entry: an agent.yaml with schedules or hooks is valid only with one. Throws `Refused`. */
function entryFor({ trust }: Config, kind: 'schedule' | 'webhook'): TrustEntry {
  const entry = trust.find(({ local }) => local === kind);
  if (!entry) throw new Refused(refusals.denied('trust', 'the command'));
  return entry;
}

/** Starts the run of an intent file. Throws `Refused`, `InvalidIntents` or a system error. */
async function startHostRun(
  { live, admission, runs }: HostRunDeps,
  event: 'schedule' | 'webhook',
  { name, intent, params, run }: { name: string; intent: string; params: Deployment['params']; run: string },
): Promise<void> {
  const { agent, intents_dir } = live.current;
  const entry = entryFor(live.current, event);
  const loaded = readIntents(intents_dir, intent, params);
  const intents = loaded.map(({ name, document, documents, intent }) => ({ name, document, documents, intent }));
  const command = createHostCommand({ type: 'run', id: run, agent, actor: name, event, intents, params });
  runs.begin(await admission.admit(command, { kind: 'host', entry }));
}
