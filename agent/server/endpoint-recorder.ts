import type { Refusal } from '../../protocol/refusal.ts';
import type { RefusedCommand } from '../admission/refused-command.ts';
import type { AuditObserver } from '../observability/audit.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { NoticeObserver } from '../observability/notify/observer.ts';

/** Records what happens at the endpoints. A full disk must not end the agent, so that a failed write is only printed. */
export class EndpointRecorder {
  readonly #audit: AuditObserver;
  readonly #metrics: Metrics;
  readonly #notices: NoticeObserver;

  constructor(audit: AuditObserver, metrics: Metrics, notices: NoticeObserver) {
    this.#audit = audit;
    this.#metrics = metrics;
    this.#notices = notices;
  }

  /** Counts a refusal, and sends it to the audit log and the channels. */
  refused(refusal: Refusal, command: RefusedCommand): void {
    this.#metrics.refused(refusal, command.intents?.length);
    this.#notices.refused(refusal, command);
    this.#bestEffort(() => this.#audit.refused(refusal, command));
  }

  /** Writes an event to the audit log. */
  write(event: string, facts: object): void {
    this.#bestEffort(() => this.#audit.write(event, facts));
  }

  #bestEffort(write: () => void): void {
    try {
      write();
    } catch (error) {
      console.error('audit:', error);
    }
  }
}
