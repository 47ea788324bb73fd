import { stackOf } from '../../intents/intent.ts';
import type { Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { RefusedCommand } from '../admission/refused-command.ts';
import type { Plan } from '../plan/plan.ts';
import type { RunObserver } from '../runs/observer.ts';
import type { AuditLog } from '../store/audit-log.ts';

const MINUTE = 60_000;

/** How many refusals of strangers are written in a minute: nobody may fill the disk by knocking. */
const MOST_REFUSALS = 120;

/** The audit: each event a row of the chain, durable before anything is told. */
export class AuditObserver implements RunObserver {
  readonly #chain: AuditLog;
  readonly #now: () => Date;
  /** argv of the steps of runs in flight, by run, document and step. */
  readonly #argv = new Map<string, readonly string[]>();
  /** Of the minute that began then: refusals of strangers that were written, and those that were not. */
  #since = 0;
  #written = 0;
  #uncounted = 0;

  constructor(chain: AuditLog, now = () => new Date()) {
    this.#chain = chain;
    this.#now = now;
  }

  write(event: string, facts: object): void {
    this.#chain.append(this.#now().toISOString(), { event, ...facts });
  }

  /** Strangers' knocking is written down up to a limit a minute, and beyond it counted. */
  refused({ code, message }: Refusal, { address, keyId, ...known }: RefusedCommand): void {
    const now = this.#now().getTime();
    if (now - this.#since >= MINUTE) {
      this.countRefusals();
      this.#since = now;
      this.#written = 0;
    }
    if (known.trust === undefined && ++this.#written > MOST_REFUSALS) {
      this.#uncounted++;
      return;
    }
    this.write('refused', { code, message, address, key: keyId, ...known });
  }

  /** Writes down how many refusals were not written one by one. */
  countRefusals(): void {
    if (this.#uncounted > 0) this.write('refused-more', { count: this.#uncounted });
    this.#uncounted = 0;
  }

  begun(run: string, admitted: AdmittedCommand): void {
    const { command } = admitted;
    this.write('run-begun', {
      run,
      type: command.type,
      dry_run: command.dry_run,
      ...whoOf(admitted),
      rules: admitted.sender.rules,
      repository: command.origin.repository,
      sha: command.origin.sha,
      actor: command.origin.actor,
      pull_request: command.approval?.pull_request,
      intents: command.intents.map(document => ({ intent: document.name, ...namesOf(document.intent) })),
    });
  }

  resumed(run: string, admitted: AdmittedCommand): void {
    this.write('run-resumed', { run, ...whoOf(admitted) });
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
    const document = admitted.documents[event.document - 1]?.document;
    this.write(event.kind, {
      run,
      intent: document?.name,
      ...(document ? namesOf(document.intent) : {}),
      step: event.step,
      ...(event.kind === 'step-started'
        ? { argv: this.#argv.get(`${run} ${event.document} ${event.step}`) }
        : { outcome: event.outcome, code: event.code, exit: event.exit, ms: event.ms }),
      ...whoOf(admitted),
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
      ...whoOf(admitted),
    });
  }
}

function whoOf({ sender }: AdmittedCommand): object {
  return { address: sender.address, key: sender.keyId, trust: sender.trust };
}

function namesOf(intent: { action: string }): object {
  return {
    action: intent.action,
    stack: stackOf(intent),
    service: 'service' in intent ? intent.service : undefined,
  };
}
