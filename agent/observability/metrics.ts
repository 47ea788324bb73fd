import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { stackOf } from '../../intents/intent.ts';
import { type Event, OUTCOMES } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import { VERSION } from '../../protocol/version.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { Plan } from '../plan/plan.ts';
import { AUTH_REASONS } from '../refusals.ts';
import { indexed, indexOf, numberOf } from '../runs/document-index.ts';
import type { RunObserver } from '../runs/observer.ts';
import type { BackupIndexEntry } from '../store/backup-index.ts';
import { type AgentState, registerAuditGauge, registerBackupGauges, registerStateGauges } from './gauges.ts';

/** Steps that are counted under their names. */
const MEASURED_STEPS = new Set([
  'write files',
  'prepare mounts',
  'pull',
  'up',
  'scale',
  'canary',
  'wait until healthy',
  'up again',
]);
/** Labels of a refused intent: its sender must not add time series. The audit log names it. */
const UNKNOWN = { intent_name: 'unknown', action: 'unknown', stack: 'unknown' };

/** Prometheus metrics. Label values come from admitted intents and from agent.yaml; `unknown` stands for all others. */
export class Metrics implements RunObserver {
  readonly registry = new Registry();
  /** Start of each document in progress, by run and document. */
  readonly #startedAt = new Map<string, number>();
  readonly #requests = new Counter({
    name: 'chatops_intent_requests_total',
    help: 'Admitted intents.',
    labelNames: ['intent_name', 'action', 'stack', 'dry_run'] as const,
    registers: [this.registry],
  });
  readonly #failures = new Counter({
    name: 'chatops_intent_failures_total',
    help: 'Intents that were refused or failed, by code.',
    labelNames: ['intent_name', 'action', 'stack', 'reason'] as const,
    registers: [this.registry],
  });
  readonly #duration = new Histogram({
    name: 'chatops_intent_duration_seconds',
    help: 'Duration of an intent, from its plan to its end.',
    labelNames: ['intent_name', 'action'] as const,
    buckets: [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600],
    registers: [this.registry],
  });
  readonly #runs = new Counter({
    name: 'chatops_runs_total',
    help: 'Ended runs by outcome.',
    labelNames: ['outcome'] as const,
    registers: [this.registry],
  });
  readonly #steps = new Histogram({
    name: 'chatops_step_duration_seconds',
    help: 'Duration of a step. A step without a fixed name is counted under its kind.',
    labelNames: ['action', 'step', 'outcome'] as const,
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800],
    registers: [this.registry],
  });
  readonly #rollbacks = new Counter({
    name: 'chatops_rollbacks_total',
    help: 'Rollbacks by cause (failure, request) and outcome.',
    labelNames: ['stack', 'cause', 'outcome'] as const,
    registers: [this.registry],
  });
  /** The step label of each planned step, by run, document and name. */
  readonly #stepLabels = new Map<string, string>();
  readonly #authFailures = new Counter({
    name: 'chatops_auth_failures_total',
    help: 'Refused commands and connections by reason.',
    labelNames: ['reason'] as const,
    registers: [this.registry],
  });

  readonly #notices = new Counter({
    name: 'chatops_notifications_total',
    help: 'Notices by outcome: sent, failed, dropped, folded.',
    labelNames: ['channel', 'outcome'] as const,
    registers: [this.registry],
  });
  readonly #hooks = new Counter({
    name: 'chatops_hooks_total',
    help: 'Deliveries to hooks by outcome.',
    labelNames: ['hook', 'outcome'] as const,
    registers: [this.registry],
  });
  readonly #schedules = new Counter({
    name: 'chatops_schedule_times_total',
    help: 'Scheduled times by outcome.',
    labelNames: ['schedule', 'outcome'] as const,
    registers: [this.registry],
  });

  constructor(
    agent: string,
    state: AgentState,
    backups: () => BackupIndexEntry[] = () => [],
    auditHead: () => { n: number; digest: string } = () => ({ n: 0, digest: '' }),
  ) {
    new Gauge({
      name: 'chatops_build_info',
      help: 'Always 1; the labels name the versions.',
      labelNames: ['version', 'agent', 'node'] as const,
      registers: [this.registry],
    }).set({ version: VERSION, agent, node: process.version }, 1);
    registerAuditGauge(this.registry, auditHead);
    registerBackupGauges(this.registry, backups);
    registerStateGauges(this.registry, state);
    for (const outcome of OUTCOMES) this.#runs.inc({ outcome }, 0);
    for (const reason of new Set(Object.values(AUTH_REASONS))) this.#authFailures.inc({ reason }, 0);
    collectDefaultMetrics({ register: this.registry });
    // promtool rejects the names of these gauges; others give the same numbers by type.
    for (const kind of ['handles', 'requests', 'resources'])
      this.registry.removeSingleMetric(`nodejs_active_${kind}_total`);
  }

  hooked(hook: string, outcome: string): void {
    this.#hooks.inc({ hook, outcome });
  }

  notified(channel: string, outcome: string): void {
    this.#notices.inc({ channel, outcome });
  }

  scheduled(schedule: string, outcome: string): void {
    this.#schedules.inc({ schedule, outcome });
  }

  /** Counts a refusal, with `intents` refused intents. */
  refused({ code }: Refusal, intents = 1): void {
    const reason = AUTH_REASONS[code];
    if (reason !== undefined) this.#authFailures.inc({ reason });
    this.#failures.inc({ ...UNKNOWN, reason: code }, Math.max(1, intents));
  }

  started(_: string, admitted: AdmittedCommand): void {
    const dry_run = String(admitted.command.dry_run);
    for (const { document } of admitted.documents) {
      this.#requests.inc({
        intent_name: document.name,
        action: document.intent.action,
        stack: stackOf(document.intent),
        dry_run,
      });
    }
  }

  planned(run: string, document: number, plan: Plan): void {
    for (const step of [...plan.steps, ...plan.undo, ...plan.cleanup, ...(plan.late ?? [])]) {
      this.#stepLabels.set(`${run} ${document} ${step.name}`, MEASURED_STEPS.has(step.name) ? step.name : step.do);
    }
  }

  eventStored(run: string, event: Event, admitted: AdmittedCommand): void {
    if (event.kind === 'step-finished') this.#stepFinished(run, event, admitted);
    if (event.kind !== 'planned' && event.kind !== 'document-finished') return;
    const key = `${run} ${event.document}`;
    if (event.kind === 'planned') {
      this.#startedAt.set(key, performance.now());
      return;
    }
    const document = admitted.documents[indexOf(event.document)]?.document;
    const startedAt = this.#startedAt.get(key);
    this.#startedAt.delete(key);
    if (!document) return;
    const labels = { intent_name: document.name, action: document.intent.action };
    if (startedAt !== undefined) this.#duration.observe(labels, (performance.now() - startedAt) / 1000);
    if (event.outcome !== 'succeeded' && event.outcome !== 'planned') {
      this.#failures.inc({ ...labels, stack: stackOf(document.intent), reason: event.code ?? event.outcome });
    }
  }

  ended(run: string, receipt: Receipt, admitted: AdmittedCommand): void {
    for (const [index] of indexed(admitted.documents)) this.#startedAt.delete(`${run} ${numberOf(index)}`);
    for (const key of this.#stepLabels.keys()) if (key.startsWith(`${run} `)) this.#stepLabels.delete(key);
    this.#runs.inc({ outcome: receipt.outcome });
    for (const { action, stack, outcome, document } of receipt.documents) {
      const hasFailed = receipt.failed_step?.document === document;
      if (outcome === 'rolled-back') this.#rollbacks.inc({ stack, cause: 'failure', outcome: 'succeeded' });
      else if (hasFailed && receipt.reason === 'undo-failed')
        this.#rollbacks.inc({ stack, cause: 'failure', outcome: 'failed' });
      if (action === 'rollback' && outcome !== 'skipped' && outcome !== 'planned')
        this.#rollbacks.inc({ stack, cause: 'request', outcome });
    }
  }

  #stepFinished(run: string, event: Extract<Event, { kind: 'step-finished' }>, admitted: AdmittedCommand): void {
    const step = this.#stepLabels.get(`${run} ${event.document} ${event.step}`) ?? 'unknown';
    const action = admitted.documents[indexOf(event.document)]?.document.intent.action ?? 'unknown';
    this.#steps.observe({ action, step, outcome: event.outcome }, event.ms / 1000);
  }
}
