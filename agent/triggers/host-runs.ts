import type { Deployment } from '../../protocol/command.ts';
import { Refused } from '../../protocol/refusal.ts';
import { admitOwn } from '../admission/admit.ts';
import type { Config } from '../config/load.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { Executor, Site } from '../executors/executor.ts';
import type { Audit } from '../observability/audit.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { NoticeWatch } from '../observability/notify/observer.ts';
import { refusals } from '../refusals.ts';
import type { Runs } from '../runs/registry.ts';
import type { Store } from '../store/runs.ts';
import { Hooks } from './hooks.ts';
import { hostCommand, readIntents } from './host-command.ts';
import { Schedules } from './schedules.ts';

/** What runs that this host begins itself need of the agent. */
export interface OwnRuns {
  config: () => Config;
  site: () => Site;
  store: Store;
  runs: Runs;
  executors: Executor[];
  audit: Audit;
  metrics: Metrics;
  notices: NoticeWatch;
}

/** The schedules of agent.yaml; not started. */
export function createSchedules(own: OwnRuns): Schedules {
  return new Schedules({
    schedules: () => own.config().schedules,
    state: name => own.store.schedule(name),
    keep: (name, state) => own.store.keepSchedule(name, state),
    begin: ({ intent, params, name }, run) => begin(own, 'schedule', { intent, params, name, run }),
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
export function createHooks(own: OwnRuns): Hooks {
  return new Hooks({
    hooks: () => own.config().hooks,
    past: (hook, since) => own.store.hookRuns(entryFor(own.config(), 'webhook').name, hook, since),
    begin: ({ intent, name }, run, params) => begin(own, 'webhook', { intent, params, name, run }),
  });
}

/** agent.yaml is not read without one, where it has schedules or hooks. Throws `Refused`. */
function entryFor({ trust }: Config, kind: 'schedule' | 'webhook'): TrustEntry {
  const entry = trust.find(({ local }) => local === kind);
  if (!entry) throw new Refused(refusals.denied('trust'));
  return entry;
}

/** Throws `Refused`, `InvalidIntents` or a system error. */
async function begin(
  { config, site, runs, executors }: OwnRuns,
  event: 'schedule' | 'webhook',
  wanted: { name: string; intent: string; params: Deployment['params']; run: string },
): Promise<void> {
  const { agent, intents_dir } = config();
  const entry = entryFor(config(), event);
  const loaded = readIntents(intents_dir, wanted.intent, wanted.params);
  const intents = loaded.map(({ name, document, documents, intent }) => ({ name, document, documents, intent }));
  const about = { type: 'run' as const, id: wanted.run, agent, actor: wanted.name, event };
  const command = hostCommand({ ...about, intents, params: wanted.params });
  runs.begin(await admitOwn(command, entry, { executors, site: site() }));
}
