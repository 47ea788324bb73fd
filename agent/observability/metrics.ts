import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { stackOf } from '../../intents/intent.ts';
import { type Event, OUTCOMES } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import { VERSION } from '../../protocol/version.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { RefusedCommand } from '../admission/refused-command.ts';
import type { Plan } from '../plan/plan.ts';
import { AUTH_REASONS } from '../refusals.ts';
import type { RunObserver } from '../runs/observer.ts';
import type { BackupIndexEntry } from '../store/backup-index.ts';
import type { ListedSchedule } from '../store/schedules.ts';

/** Steps that are worth a number of their own. */
const MEASURED_STEPS = new Set([
  'write files',
  'check config',
  'pull',
  'up',
  'scale',
  'canary',
  'wait until healthy',
  'up again',
]);
const UNKNOWN = [{ intent: 'unknown', action: 'unknown', stack: 'unknown' }];

/** Prometheus metrics. Label values come from admitted or at least well-signed intents; what is not known is `unknown`. */
export class Metrics implements RunObserver {
  readonly registry = new Registry();
  readonly #began = new Map<string, number>();
  readonly #requests = new Counter({
    name: 'chatops_intent_requests_total',
    help: 'Intents that were admitted.',
    labelNames: ['intent_name', 'action', 'stack', 'dry_run'] as const,
    registers: [this.registry],
  });
  readonly #failures = new Counter({
    name: 'chatops_intent_failures_total',
    help: 'Intents that were refused or did not succeed, by the stable code.',
    labelNames: ['intent_name', 'action', 'stack', 'reason'] as const,
    registers: [this.registry],
  });
  readonly #duration = new Histogram({
    name: 'chatops_intent_duration_seconds',
    help: 'How long an intent took, from its plan to its end.',
    labelNames: ['intent_name', 'action'] as const,
    buckets: [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600],
    registers: [this.registry],
  });
  readonly #runs = new Counter({
    name: 'chatops_runs_total',
    help: 'Runs that have ended, by outcome.',
    labelNames: ['outcome'] as const,
    registers: [this.registry],
  });
  readonly #steps = new Histogram({
    name: 'chatops_step_duration_seconds',
    help: 'How long a step took. Steps whose names hold more than a verb are counted by their kind.',
    labelNames: ['action', 'step', 'outcome'] as const,
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800],
    registers: [this.registry],
  });
  readonly #rollbacks = new Counter({
    name: 'chatops_rollbacks_total',
    help: 'Ways back: after a failure, or on request; and whether they came to their end.',
    labelNames: ['stack', 'cause', 'outcome'] as const,
    registers: [this.registry],
  });
  /** What a step counts as, by run, document and name. */
  readonly #kinds = new Map<string, string>();
  readonly #authFailures = new Counter({
    name: 'chatops_auth_failures_total',
    help: 'Commands and connections that were turned away, by reason.',
    labelNames: ['reason'] as const,
    registers: [this.registry],
  });

  readonly #notified = new Counter({
    name: 'chatops_notifications_total',
    help: 'Notices, by what became of them: sent, failed, dropped, folded.',
    labelNames: ['channel', 'outcome'] as const,
    registers: [this.registry],
  });
  readonly #hooked = new Counter({
    name: 'chatops_hooks_total',
    help: 'Deliveries to hooks, by what became of them: begun, ignored, refused.',
    labelNames: ['hook', 'outcome'] as const,
    registers: [this.registry],
  });
  readonly #scheduled = new Counter({
    name: 'chatops_schedule_times_total',
    help: 'Times of schedules, by what became of them: begun, skipped, missed, failed.',
    labelNames: ['schedule', 'outcome'] as const,
    registers: [this.registry],
  });

  constructor(
    agent: string,
    now: {
      inProgress: () => number;
      waiting: () => number;
      connections: () => number;
      schedules?: () => ListedSchedule[];
      circuits?: () => { name: string; state: number }[];
    },
    backups: () => BackupIndexEntry[] = () => [],
    audit: () => { n: number; digest: string } = () => ({ n: 0, digest: '' }),
  ) {
    new Gauge({
      name: 'chatops_audit_rows',
      help: 'How many rows the audit has; the label is the digest of the newest one.',
      labelNames: ['digest'] as const,
      registers: [this.registry],
      collect() {
        const { n, digest } = audit();
        this.reset();
        this.set({ digest }, n);
      },
    });
    const seconds = (at: string | undefined) => (at === undefined || at === '' ? undefined : Date.parse(at) / 1000);
    const made = (one: BackupIndexEntry, value: number) => (one.at === '' ? undefined : value);
    const gauges: [string, string, (one: BackupIndexEntry) => number | undefined][] = [
      ['chatops_backup_last_success_timestamp_seconds', 'When the last backup was made.', one => seconds(one.at)],
      [
        'chatops_backup_last_verified_timestamp_seconds',
        'When a backup was last read back whole.',
        one => seconds(one.verifiedAt),
      ],
      [
        'chatops_backup_last_drill_timestamp_seconds',
        'When a backup was last restored for a trial.',
        one => seconds(one.drilledAt),
      ],
      ['chatops_backup_size_bytes', 'What the last backup holds.', one => made(one, one.bytes)],
      ['chatops_backup_duration_seconds', 'How long the last backup took.', one => made(one, one.seconds)],
      [
        'chatops_backup_drill_duration_seconds',
        'How long the last trial took: the time to restore.',
        one => one.drillSeconds,
      ],
    ];
    for (const [name, help, of] of gauges) this.#backupGauge(name, help, backups, of);
    new Gauge({
      name: 'chatops_build_info',
      help: 'Always 1; the labels tell what runs.',
      labelNames: ['version', 'agent', 'node'] as const,
      registers: [this.registry],
    }).set({ version: VERSION, agent, node: process.version }, 1);
    new Gauge({
      name: 'chatops_runs_in_progress',
      help: 'Runs that are waiting or being carried out.',
      registers: [this.registry],
      collect() {
        this.set(now.inProgress());
      },
    });
    const schedules: [string, string, (one: ListedSchedule) => string | null][] = [
      ['chatops_schedule_next_timestamp_seconds', 'When a schedule comes next.', one => one.next],
      ['chatops_schedule_last_timestamp_seconds', 'The time of a schedule that was last seen to.', one => one.last],
    ];
    for (const [name, help, at] of schedules) {
      new Gauge({
        name,
        help,
        labelNames: ['schedule'] as const,
        registers: [this.registry],
        collect() {
          this.reset();
          for (const one of now.schedules?.() ?? []) {
            const value = seconds(at(one) ?? undefined);
            if (value !== undefined) this.set({ schedule: one.name }, value);
          }
        },
      });
    }
    new Gauge({
      name: 'chatops_circuit_state',
      help: 'Whether somebody is left alone for a while because nothing works there: 0 closed, 1 open, 0.5 tried again.',
      labelNames: ['name'] as const,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { name, state } of now.circuits?.() ?? []) this.set({ name }, state);
      },
    });
    new Gauge({
      name: 'chatops_connections',
      help: 'Open connections of actions.',
      registers: [this.registry],
      collect() {
        this.set(now.connections());
      },
    });
    new Gauge({
      name: 'chatops_run_queue_length',
      help: 'Runs that wait for their turn.',
      registers: [this.registry],
      collect() {
        this.set(now.waiting());
      },
    });
    for (const outcome of OUTCOMES) this.#runs.inc({ outcome }, 0);
    for (const reason of new Set(Object.values(AUTH_REASONS))) this.#authFailures.inc({ reason }, 0);
    collectDefaultMetrics({ register: this.registry });
    // Gauges whose names promtool objects to; the same numbers are told by type.
    for (const kind of ['handles', 'requests', 'resources'])
      this.registry.removeSingleMetric(`nodejs_active_${kind}_total`);
  }

  hooked(hook: string, outcome: string): void {
    this.#hooked.inc({ hook, outcome });
  }

  notified(channel: string, outcome: string): void {
    this.#notified.inc({ channel, outcome });
  }

  scheduled(schedule: string, outcome: string): void {
    this.#scheduled.inc({ schedule, outcome });
  }

  refused({ code }: Refusal, { intents = UNKNOWN }: RefusedCommand): void {
    const reason = AUTH_REASONS[code];
    if (reason !== undefined) this.#authFailures.inc({ reason });
    for (const { intent, action, stack } of intents) {
      this.#failures.inc({ intent_name: intent, action, stack, reason: code });
    }
  }

  begun(_: string, admitted: AdmittedCommand): void {
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
      this.#kinds.set(`${run} ${document} ${step.name}`, MEASURED_STEPS.has(step.name) ? step.name : step.do);
    }
  }

  eventStored(run: string, event: Event, admitted: AdmittedCommand): void {
    if (event.kind === 'step-finished') this.#stepFinished(run, event, admitted);
    if (event.kind !== 'planned' && event.kind !== 'document-finished') return;
    const key = `${run} ${event.document}`;
    if (event.kind === 'planned') {
      this.#began.set(key, performance.now());
      return;
    }
    const document = admitted.documents[event.document - 1]?.document;
    const began = this.#began.get(key);
    this.#began.delete(key);
    if (!document) return;
    const names = { intent_name: document.name, action: document.intent.action };
    if (began !== undefined) this.#duration.observe(names, (performance.now() - began) / 1000);
    if (event.outcome !== 'succeeded' && event.outcome !== 'planned') {
      this.#failures.inc({ ...names, stack: stackOf(document.intent), reason: event.code ?? event.outcome });
    }
  }

  ended(run: string, receipt: Receipt, admitted: AdmittedCommand): void {
    for (const index of admitted.documents.keys()) this.#began.delete(`${run} ${index + 1}`);
    for (const key of this.#kinds.keys()) if (key.startsWith(`${run} `)) this.#kinds.delete(key);
    this.#runs.inc({ outcome: receipt.outcome });
    for (const { action, stack, outcome, document } of receipt.documents) {
      const isLast = receipt.failed_step?.document === document;
      if (outcome === 'rolled-back') this.#rollbacks.inc({ stack, cause: 'failure', outcome: 'succeeded' });
      else if (isLast && receipt.reason === 'undo-failed')
        this.#rollbacks.inc({ stack, cause: 'failure', outcome: 'failed' });
      if (action === 'rollback' && outcome !== 'skipped' && outcome !== 'planned')
        this.#rollbacks.inc({ stack, cause: 'request', outcome });
    }
  }

  /** One gauge of the newest backups, read when it is asked for: it survives the agent. */
  #backupGauge(
    name: string,
    help: string,
    known: () => BackupIndexEntry[],
    of: (one: BackupIndexEntry) => number | undefined,
  ): void {
    new Gauge({
      name,
      help,
      labelNames: ['kind', 'name'] as const,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const one of known()) {
          const value = of(one);
          if (value !== undefined) this.set({ kind: one.kind, name: one.name }, value);
        }
      },
    });
  }

  #stepFinished(run: string, event: Extract<Event, { kind: 'step-finished' }>, admitted: AdmittedCommand): void {
    const step = this.#kinds.get(`${run} ${event.document} ${event.step}`) ?? 'unknown';
    const action = admitted.documents[event.document - 1]?.document.intent.action ?? 'unknown';
    this.#steps.observe({ action, step, outcome: event.outcome }, event.ms / 1000);
  }
}
