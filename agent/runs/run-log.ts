import type { Event, Frame } from '../../protocol/event.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import { describeStep } from '../plan/describe.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, ProgressEvent } from '../plan/progress.ts';
import { redactEvent, redactResult } from '../secrets/redact-events.ts';
import { updateIndexEntry } from '../store/backup-index.ts';
import type { RunStore } from '../store/runs.ts';
import type { Redactor } from '../system/redactor.ts';
import { Detached, type Detachment } from './detachment.ts';
import { type DocumentIndex, numberOf } from './document-index.ts';
import type { RunObserver } from './observer.ts';

/** Number of the newest frames that stay in memory for followers that keep up. */
const RECENT = 8;

export interface RunLogDeps {
  admitted: AdmittedCommand;
  store: RunStore;
  observers: readonly RunObserver[];
  redactor: Redactor;
  detachment: Detachment;
  now: () => string;
}

/** Events of one run. Each is redacted, stored, sent to followers and reported to observers, in this order. */
export class RunLog {
  readonly #deps: RunLogDeps;
  readonly #run: string;
  readonly #wakeups = new Set<() => void>();
  readonly #recent: { n: number; frame: Frame }[] = [];

  constructor(deps: RunLogDeps) {
    this.#deps = deps;
    this.#run = deps.admitted.command.id;
  }

  async append(happened: ProgressEvent, result?: DocumentResult): Promise<void> {
    const { admitted, store, redactor, detachment, now } = this.#deps;
    const redacted = redactEvent(happened, redactor);
    const event = await detachment.retryUntilStored((): Event => {
      const { event, frame } = store.append(this.#run, redacted, now(), result);
      this.#recent.push({ n: event.n, frame });
      if (this.#recent.length > RECENT) this.#recent.shift();
      return event;
    });
    this.wakeFollowers();
    await this.notifyObservers(observer => observer.eventStored?.(this.#run, event, admitted));
  }

  /** Appends everything that `work` yields. Returns its result. */
  async appendAll<T>(work: AsyncGenerator<ProgressEvent, T>): Promise<T> {
    const { detachment } = this.#deps;
    let next = await detachment.until(work.next());
    for (; !next.done; next = await detachment.until(work.next())) await this.append(next.value);
    return next.value;
  }

  async appendPlan(index: DocumentIndex, plan: Plan): Promise<void> {
    const id = this.#deps.admitted.documents[index]?.document.intent.id;
    await this.append({
      kind: 'planned',
      document: numberOf(index),
      ...(id === undefined ? {} : { id }),
      title: plan.title,
      summary: plan.summary,
      steps: plan.steps.map(step => ({ name: step.name, text: describeStep(step) })),
      changes: plan.changes,
    });
  }

  /** Stores a document's result, and first the backup that it made. Returns the result without secrets. */
  async appendResult(index: DocumentIndex, finished: DocumentResult): Promise<DocumentResult> {
    const result = redactResult(finished, this.#deps.redactor);
    const { outcome, code, message } = result;
    if (outcome === 'skipped') return result;
    if (outcome === 'succeeded') await this.#indexBackup(index, result);
    await this.append(
      {
        kind: 'document-finished',
        document: numberOf(index),
        outcome,
        ...(code === undefined ? {} : { code }),
        ...(message === undefined ? {} : { message }),
      },
      result,
    );
    return result;
  }

  /** Appends a note between the steps. Logs a failure instead of throwing it. */
  note(level: 'info' | 'warning' | 'error', text: string): void {
    this.append({ kind: 'note', level, text }).catch((error: unknown) => {
      if (!(error instanceof Detached)) console.error(`run ${this.#run}:`, error);
    });
  }

  /** Calls each observer, and calls it again while the disk is full. */
  async notifyObservers(call: (observer: RunObserver) => void): Promise<void> {
    const { observers, detachment } = this.#deps;
    for (const observer of observers) await detachment.retryUntilStored(() => call(observer));
  }

  /** Returns the frames after number `last` if all of them are in memory. */
  recentAfter(last: number): { n: number; frame: Frame }[] | undefined {
    const first = this.#recent.findIndex(({ n }) => n === last + 1);
    return first < 0 ? undefined : this.#recent.slice(first);
  }

  /** Resolves after the next event, or when `signal` aborts. */
  nextEvent(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wakeups.add(wake);
      if (signal.aborted) wake();
      else signal.addEventListener('abort', wake);
    });
  }

  wakeFollowers(): void {
    for (const wake of this.#wakeups) wake();
    this.#wakeups.clear();
  }

  /** A later rollout of the same run can require this backup. */
  async #indexBackup(index: DocumentIndex, result: DocumentResult): Promise<void> {
    const { admitted, store, detachment, now } = this.#deps;
    const document = admitted.documents[index]?.document.name ?? '';
    const find = (kind: string, name: string) =>
      store.backups().find(backup => backup.kind === kind && backup.name === name);
    const entry = updateIndexEntry(find, result, { run: this.#run, document, at: now() });
    if (entry) await detachment.retryUntilStored(() => store.putBackup(entry));
  }
}
