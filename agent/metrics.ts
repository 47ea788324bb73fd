import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Event } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import { VERSION } from '../protocol/version.ts';
import type { Admitted } from './admitted.ts';
import type { Refusing } from './audit.ts';
import { stackOf } from './receipts.ts';
import { AUTH_REASONS } from './refusals.ts';
import type { Watcher } from './watcher.ts';

const UNKNOWN = [{ intent: 'unknown', action: 'unknown', stack: 'unknown' }];

/** Prometheus metrics. Label values come from admitted or at least well-signed intents; what is not known is `unknown`. */
export class Metrics implements Watcher {
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
  readonly #authFailures = new Counter({
    name: 'chatops_auth_failures_total',
    help: 'Commands and connections that were turned away, by reason.',
    labelNames: ['reason'] as const,
    registers: [this.registry],
  });

  constructor(agent: string, runsInProgress: () => number) {
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
        this.set(runsInProgress());
      },
    });
    for (const reason of new Set(Object.values(AUTH_REASONS))) this.#authFailures.inc({ reason }, 0);
    collectDefaultMetrics({ register: this.registry });
    // Gauges whose names promtool objects to; the same numbers are told by type.
    for (const kind of ['handles', 'requests', 'resources'])
      this.registry.removeSingleMetric(`nodejs_active_${kind}_total`);
  }

  refused({ code }: Refusal, { intents = UNKNOWN }: Refusing): void {
    const reason = AUTH_REASONS[code];
    if (reason !== undefined) this.#authFailures.inc({ reason });
    for (const { intent, action, stack } of intents) {
      this.#failures.inc({ intent_name: intent, action, stack, reason: code });
    }
  }

  begun(_: string, admitted: Admitted): void {
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

  happened(run: string, event: Event, admitted: Admitted): void {
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

  ended(run: string, _: Receipt, admitted: Admitted): void {
    for (const index of admitted.documents.keys()) this.#began.delete(`${run} ${index + 1}`);
  }
}
