import { join } from 'node:path';
import { Admission } from './admission/admit.ts';
import { createRenderer } from './compose/render-thread.ts';
import { AgentKeys } from './config/agent-keys.ts';
import { createLiveConfig } from './config/live.ts';
import { parseSize } from './config/load.ts';
import { writePrograms } from './config/proxmox-programs.ts';
import { siteOf } from './config/site.ts';
import { makeStateDir } from './config/state-dir.ts';
import { Selftest } from './diagnostics/selftest.ts';
import { executors } from './executors/index.ts';
import { AuditObserver } from './observability/audit.ts';
import { Metrics } from './observability/metrics.ts';
import { Notifier } from './observability/notify/notifier.ts';
import { NoticeObserver } from './observability/notify/observer.ts';
import { CircuitBreakers } from './outbound/circuit-breaker.ts';
import { DockerEngine } from './outbound/docker.ts';
import { RunRegistry } from './runs/registry.ts';
import { startRetention } from './runs/retention.ts';
import { createOwnWords } from './secrets/own-words.ts';
import { Endpoints } from './server/endpoints.ts';
import { createReadinessCheck } from './server/readiness.ts';
import { createStepRunner } from './steps/index.ts';
import { AuditLog } from './store/audit-log.ts';
import { Database } from './store/database.ts';
import { createNoticeQueue } from './store/notice-queue.ts';
import { RunStore } from './store/runs.ts';
import { createHostReader } from './system/host-reader.ts';
import { createCleanEnvironment } from './system/process.ts';
import { createScheduler, createWebhookHandler } from './triggers/host-runs.ts';

/** A running agent. */
export interface Agent {
  port: number;
  publicKey: string;
  /** Reads agent.yaml again. The agent reports an invalid one, and keeps the old one. */
  reload(): void;
  /** Accepts no new commands, detaches from running runs (their processes continue), and closes everything. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  log?: (line: string) => void;
  /** The argv that starts a supervisor. */
  supervisor: readonly [string, ...string[]];
  /** The file of this program, whose words are the agent's own. Threads for renderings run it too. */
  program?: string;
  /** The time between pings of a connection, in milliseconds. */
  pingMs?: number;
}

/** Starts the agent that `file` (agent.yaml) describes. Throws {@link ConfigError} or a system error. */
export async function startAgent(
  file: string,
  { log = console.log, supervisor, program, pingMs }: AgentOptions,
): Promise<Agent> {
  const live = createLiveConfig(file);
  const { agent, docker, limits, state_dir } = live.current;
  makeStateDir(state_dir);
  const keys = new AgentKeys(state_dir);
  writePrograms(live.current, supervisor);

  const database = new Database(join(state_dir, 'chatops.db'));
  const store = new RunStore(database);
  const auditLog = new AuditLog(database);
  const audit = new AuditObserver(auditLog);
  const environment = createCleanEnvironment(docker);
  const engine = new DockerEngine(docker.socket);
  const host = createHostReader(
    engine,
    environment,
    createRenderer(
      () => ({ rulesOf: siteOf(live.current).compose.rulesOf, configDir: live.current.docker.config_dir }),
      program,
    ),
  );
  const circuits = new CircuitBreakers();
  const metrics = new Metrics(
    agent,
    {
      inProgress: () => runs.inProgress(),
      waiting: () => runs.waiting(),
      connections: () => endpoints.connections,
      schedules: () => schedules.list(),
      circuits: () => [...notifier.circuits(), ...circuits.states()],
    },
    () => store.backups(),
    () => auditLog.head,
  );
  const notifier = new Notifier({
    config: () => live.current.notify,
    queue: createNoticeQueue(database),
    count: (channel, outcome) => metrics.notified(channel, outcome),
    say: log,
  });
  const notices = new NoticeObserver(agent, notifier);

  const runs = new RunRegistry({
    ...{ agent, store, executors, circuits },
    keys: () => keys.all,
    folder: join(state_dir, 'runs'),
    site: () => siteOf(live.current),
    look: host,
    createStepRunner: (runDir, redactor) =>
      createStepRunner({
        ...{ engine, environment, keeper: supervisor, runDir, redactor, circuits },
        outputLimit: parseSize(live.current.limits.output),
      }),
    secrets: () => {
      const { show: shown, hide: hidden } = live.current.secrets;
      return { own: keys.secrets, names: { shown, hidden } };
    },
    isOwnWord: createOwnWords(program),
    observers: [audit, metrics, notices],
    audit: () => auditLog.head,
    limit: limits.concurrent_runs,
  });

  const selftest = new Selftest();
  const admission = new Admission({
    ...{ live, executors, host, circuits, deployments: store.deployments },
    ownKeys: () => keys.all.map(key => key.public.text),
    temporaryKeys: () => selftest.keys(),
  });
  const hostRuns = { live, admission, store, runs, audit, metrics, notices };
  const schedules = createScheduler(hostRuns);
  live.onChange(next => {
    writePrograms(next, supervisor);
    keys.reload();
    return () => schedules.start();
  });

  const endpoints = new Endpoints({
    ...{ file, live, admission, runs, store, keys, auditLog, audit, metrics, notices, notifier },
    ...{ schedules, webhooks: createWebhookHandler(hostRuns), selftest, log, pingMs },
    checkReadiness: createReadinessCheck({ engine, host, docker: docker.command, store }),
  });

  await endpoints.listen();
  const stopRetention = startRetention(runs, () => live.current);
  const resumed = runs.resumeAll();
  schedules.start();
  notifier.start();
  if (resumed.length > 0) log(`resumed: ${resumed.join(', ')}`);

  return {
    port: endpoints.port,
    get publicKey() {
      return keys.current.public.text;
    },
    reload: () => void endpoints.reload('signal'),
    async stop() {
      stopRetention();
      await schedules.stop();
      await runs.stop();
      await endpoints.close();
      await notifier.stop();
      audit.countRefusals();
      audit.write('stopped', {});
      store.close();
    },
  };
}
