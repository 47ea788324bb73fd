import { stackOf } from '../../intents/intent.ts';
import type { Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { RefusedCommand } from '../admission/refused-command.ts';
import type { Plan } from '../plan/plan.ts';
import { indexOf } from '../runs/document-index.ts';
import type { RunObserver } from '../runs/observer.ts';
import type { AuditLog } from '../store/audit-log.ts';

const MINUTE = 60_000;

/** Refusals of unauthenticated callers that are written per minute, and the length of a message: they must not fill the disk. */
const MAX_REFUSALS = 120;
const MAX_MESSAGE = 500;

/** Writes the audit log: each event is a row of the hash chain, and durable before a follower sees the event. */
export class AuditObserver implements RunObserver {
  readonly #log: AuditLog;
  readonly #now: () => Date;
  /** argv of the steps of runs in progress, by run, document and step. */
  readonly #argv = new Map<string, readonly string[]>();
  /** Start of the current minute, and its refusals of unauthenticated callers: those that were written, and the others. */
  #minuteStart = 0;
  #written = 0;
  #unwritten = 0;

  constructor(log: AuditLog, now = () => new Date()) {
    this.#log = log;
    this.#now = now;
  }

  write(event: string, facts: object): void {
    this.#log.append(this.#now().toISOString(), { event, ...facts });
  }

  /** Writes a refusal. Beyond a limit per minute, those of unauthenticated callers are only counted. */
  refused({ code, message }: Refusal, { address, keyId, ...known }: RefusedCommand): void {
    const now = this.#now().getTime();
    if (now - this.#minuteStart >= MINUTE) {
      this.countRefusals();
      this.#minuteStart = now;
      this.#written = 0;
    }
    if (known.trust === undefined && ++this.#written > MAX_REFUSALS) {
      this.#unwritten++;
      return;
    }
    const facts = { event: 'refused', code, message: message.slice(0, MAX_MESSAGE), address, key: keyId, ...known };
    // The agent does not wait for the disk on behalf of a caller that it does not know.
    this.#log.append(this.#now().toISOString(), facts, { durable: known.trust !== undefined });
  }

  /** Writes the number of refusals that were only counted. */
  countRefusals(): void {
    if (this.#unwritten > 0) this.write('refused-more', { count: this.#unwritten });
    this.#unwritten = 0;
  }

  started(run: string, admitted: AdmittedCommand): void {
    const { command } = admitted;
    this.write('run-begun', {
      run,
      type: command.type,
      dry_run: command.dry_run,
      ...senderFacts(admitted),
      rules: admitted.sender.rules,
      repository: command.origin.repository,
      sha: command.origin.sha,
      actor: command.origin.actor,
      pull_request: command.approval?.pull_request,
      intents: command.intents.map(document => ({ intent: document.name, ...intentFacts(document.intent) })),
    });
  }

  resumed(run: string, admitted: AdmittedCommand): void {
    this.write('run-resumed', { run, ...senderFacts(admitted) });
  }

  cancelled(run: string, by: object): void {
    this.write('run-cancelled', { run, by });
  }

  planned(run: string, document: number, plan: Plan): void {
    for (const step of [...plan.steps, ...plan.undo, ...plan.cleanup]) {
      if (step.do === 'start') this.#argv.set(`${run} ${document} ${step.name}`, step.argv);
    }
  }

  eventStored(run: string, event: Event, admitted: AdmittedCommand): void {
    if (event.kind !== 'step-started' && event.kind !== 'step-finished') return;
    const document = admitted.documents[indexOf(event.document)]?.document;
    this.write(event.kind, {
      run,
      intent: document?.name,
      ...(document ? intentFacts(document.intent) : {}),
      step: event.step,
      ...(event.kind === 'step-started'
        ? { argv: this.#argv.get(`${run} ${event.document} ${event.step}`) }
        : { outcome: event.outcome, code: event.code, exit: event.exit, ms: event.ms }),
      ...senderFacts(admitted),
    });
  }

  ended(run: string, receipt: Receipt, admitted: AdmittedCommand): void {
    for (const key of this.#argv.keys()) if (key.startsWith(`${run} `)) this.#argv.delete(key);
    this.write('run-ended', {
      run,
      outcome: receipt.outcome,
      code: receipt.reason,
      message: receipt.message,
      changed: receipt.changed,
      events: receipt.events,
      events_digest: receipt.events_digest,
      ...senderFacts(admitted),
    });
  }
}

function senderFacts({ sender }: AdmittedCommand): object {
  return { address: sender.address, key: sender.keyId, trust: sender.trust };
}

function intentFacts(intent: { action: string }): object {
  return {
    action: intent.action,
    stack: stackOf(intent),
    service: 'service' in intent ? intent.service : undefined,
  };
}
