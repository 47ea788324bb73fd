import { join } from 'node:path';
import { VERSION } from '../../protocol/version.ts';
import { parseListen } from '../config/load.ts';
import type { Selftest } from '../diagnostics/selftest.ts';
import type { AuditObserver } from '../observability/audit.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { Notifier } from '../observability/notify/notifier.ts';
import type { NoticeObserver } from '../observability/notify/observer.ts';
import type { AuditLog } from '../store/audit-log.ts';
import type { WebhookHandler } from '../triggers/hooks.ts';
import type { Scheduler } from '../triggers/schedules.ts';
import { cacheRead } from './cached-read.ts';
import { ConnectionLimits } from './connection-limits.ts';
import type { EndpointDeps } from './endpoint.ts';
import { EndpointRecorder } from './endpoint-recorder.ts';
import { AgentServer } from './http-server.ts';
import { LocalApi, SOCKET } from './local-api.ts';
import { Queries } from './queries.ts';
import { createReload, describeTrustChanges, type ReloadResult } from './reload.ts';
import { SelftestEndpoint } from './selftest-endpoint.ts';

export interface EndpointsOptions extends Omit<EndpointDeps, 'queries' | 'recorder'> {
  /** The path of agent.yaml. */
  file: string;
  auditLog: AuditLog;
  audit: AuditObserver;
  metrics: Metrics;
  notices: NoticeObserver;
  notifier: Notifier;
  schedules: Scheduler;
  webhooks: WebhookHandler;
  selftest: Selftest;
  checkReadiness: () => Promise<string[]>;
  log: (line: string) => void;
  pingMs?: number | undefined;
}

/** Any device that may connect can ask for metrics and readiness: the work is done at most once in this time. */
const CACHE_MS = 1_000;

/** All endpoints of the agent: the HTTP server and the API on its own socket. */
export class Endpoints {
  /** Reads agent.yaml and the agent's keys again. */
  readonly reload: (by: 'signal' | 'local') => ReloadResult;
  readonly #options: EndpointsOptions;
  readonly #server: AgentServer;
  readonly #local: LocalApi;

  constructor(options: EndpointsOptions) {
    this.#options = options;
    const { file, live, admission, runs, store, keys, auditLog, audit, metrics, notices } = options;
    const { notifier, schedules, webhooks, selftest, checkReadiness, log, pingMs } = options;
    const recorder = new EndpointRecorder(audit, metrics, notices);
    const queries = new Queries({ file, live, admission, store, audit: auditLog, schedules, notifier });
    const deps: EndpointDeps = { live, admission, runs, store, queries, keys, recorder };
    const limits = new ConnectionLimits(live, recorder);
    this.#server = new AgentServer({
      ...{ ...deps, limits, webhooks, log, pingMs },
      countHook: (hook, outcome) => metrics.hooked(hook, outcome),
      checkReadiness: cacheRead(CACHE_MS, checkReadiness),
      readMetrics: cacheRead(CACHE_MS, () => metrics.registry.metrics()),
    });
    const revoke = this.#server.revoke.bind(this.#server);
    this.reload = createReload({ live, admission, keys, revoke, recorder, log });
    this.#local = new LocalApi({
      ...deps,
      reload: () => this.reload('local'),
      selftest: new SelftestEndpoint({ live, selftest, limits, audit, keys }),
    });
  }

  /** The number of open WebSocket connections. */
  get connections(): number {
    return this.#server.connections;
  }

  /** The port of the HTTP server. */
  get port(): number {
    return this.#server.port;
  }

  /** Opens the endpoints, and reports the start to audit log and log. */
  async listen(): Promise<void> {
    const { live, admission, keys, audit, log } = this.#options;
    const { agent, listen, state_dir } = live.current;
    const { host, port } = parseListen(listen) ?? { host: '127.0.0.1', port: 0 };
    await this.#server.listen(host, port);
    await this.#local.listen(join(state_dir, SOCKET));
    const trust = describeTrustChanges(admission.trust, admission.trust);
    audit.write('started', { agent, version: VERSION, listen, key: keys.current.public.id, ...trust });
    log(`chatops agent "${agent}" ${VERSION} listens on ${listen}`);
    log(`agent-key: ${keys.current.public.text}`);
  }

  async close(): Promise<void> {
    await Promise.all([this.#server.close(), this.#local.close()]);
  }
}
