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

/** What runs that this host begins itself need of the agent. */
export interface HostRunDeps {
  live: Live<Config>;
  admission: Admission;
  store: RunStore;
  runs: RunRegistry;
  audit: AuditObserver;
  metrics: Metrics;
  notices: NoticeObserver;
}

/** The schedules of agent.yaml; not started. */
export function createScheduler(own: HostRunDeps): Scheduler {
  return new Scheduler({
    schedules: () => own.live.current.schedules,
    state: name => own.store.schedule(name),
    keep: (name, state) => own.store.keepSchedule(name, state),
    begin: ({ intent, params, name }, run) => startHostRun(own, 'schedule', { intent, params, name, run }),
    isGoing(run) {
      const found = own.runs.find(run);
      return found !== undefined && found.state !== 'ended';
    },
    tell(event, facts) {
      own.metrics.scheduled(facts.schedule, event.replace('schedule-', ''));
      own.audit.write(event, facts);
      if (facts.why === undefined) return;
      console.error(`schedule ${facts.schedule}: ${facts.why}`);
      if (event === 'schedule-failed') own.notices.scheduleFailed(facts.schedule, facts.why);
    },
  });
}

/** The hooks of agent.yaml. */
export function createWebhookHandler(own: HostRunDeps): WebhookHandler {
  return new WebhookHandler({
    hooks: () => own.live.current.hooks,
    past: (hook, since) => own.store.hookRuns(entryFor(own.live.current, 'webhook').name, hook, since),
    begin: ({ intent, name }, run, params) => startHostRun(own, 'webhook', { intent, params, name, run }),
  });
}

/** agent.yaml is not read without one, where it has schedules or hooks. Throws `Refused`. */
function entryFor({ trust }: Config, kind: 'schedule' | 'webhook'): TrustEntry {
  const entry = trust.find(({ local }) => local === kind);
  if (!entry) throw new Refused(refusals.denied('trust'));
  return entry;
}

/** Throws `Refused`, `InvalidIntents` or a system error. */
async function startHostRun(
  { live, admission, runs }: HostRunDeps,
  event: 'schedule' | 'webhook',
  wanted: { name: string; intent: string; params: Deployment['params']; run: string },
): Promise<void> {
  const { agent, intents_dir } = live.current;
  const entry = entryFor(live.current, event);
  const loaded = readIntents(intents_dir, wanted.intent, wanted.params);
  const intents = loaded.map(({ name, document, documents, intent }) => ({ name, document, documents, intent }));
  const about = { type: 'run' as const, id: wanted.run, agent, actor: wanted.name, event };
  const command = createHostCommand({ ...about, intents, params: wanted.params });
  runs.begin(await admission.admit(command, { kind: 'host', entry }));
}
