import type { Answer, Question } from '../../protocol/question.ts';
import { VERSION } from '../../protocol/version.ts';
import type { Admission } from '../admission/admit.ts';
import type { AuthenticatedSender } from '../admission/authenticate.ts';
import { requireOwnRun } from '../admission/check-sender.ts';
import { lastDeployments } from '../admission/coverage.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import { diagnoseHost, passed } from '../diagnostics/doctor.ts';
import type { AuditLog, AuditRow } from '../store/audit-log.ts';
import type { RunStore } from '../store/runs.ts';
import type { ListedSchedule } from '../store/schedules.ts';
import { toRunView } from './run-view.ts';

/** The sources of the answers. */
export interface QueriesOptions {
  /** The path of agent.yaml. */
  file: string;
  live: Live<Config>;
  admission: Pick<Admission, 'simulate'>;
  store: RunStore;
  audit: AuditLog;
  schedules: { list(): ListedSchedule[] };
  notifier: { testAll(channel: string | undefined, agent: string): Promise<Answer<'notify'>> };
}

/** The most audit rows that are read at once, and the size at which a part of an answer ends. */
const AUDIT_ROWS = 500;
const AUDIT_BYTES = 2 ** 20;

/** Answers questions about this host: signed ones from elsewhere, and those of the agent's own socket. */
export class Queries {
  readonly #options: QueriesOptions;

  constructor(options: QueriesOptions) {
    this.#options = options;
  }

  /** Yields the answer to a question that the sender may ask, part by part. Throws `Refused`. */
  async *answer(question: Question, { entry }: AuthenticatedSender): AsyncGenerator<Answer<Question['about']>> {
    const { file, live, admission, store } = this.#options;
    switch (question.about) {
      case 'run':
        yield toRunView(requireOwnRun(question.run, entry.name, store));
        break;
      case 'schedules':
        yield this.schedules();
        break;
      case 'audit':
        yield* this.auditPages(question.after);
        break;
      case 'doctor':
        yield await diagnoseHost(file, async () =>
          passed('the agent', `is running, and answers on ${live.current.listen}: ${VERSION}`),
        );
        break;
      case 'notify':
        yield await this.testNotices(question.channel);
        break;
      case 'deployed':
        yield lastDeployments(question.documents, entry.repository ?? '', store.deployments);
        break;
      case 'policy':
        yield await admission.simulate(question.supposed);
    }
  }

  schedules(): ListedSchedule[] {
    return this.#options.schedules.list();
  }

  /** Sends a test notice to one channel, or to each. */
  testNotices(channel: string | undefined): Promise<Answer<'notify'>> {
    return this.#options.notifier.testAll(channel, this.#options.live.current.agent);
  }

  /** Yields the rows that exist at the start, in at least one page. */
  *auditPages(after: number): Generator<AuditRow[]> {
    const { audit } = this.#options;
    const last = audit.head.n;
    for (let n = after; ; ) {
      const rows = readAuditPage(audit, n).filter(row => row.n <= last);
      yield rows;
      n = rows.at(-1)?.n ?? last;
      if (n >= last) return;
    }
  }
}

function readAuditPage(audit: AuditLog, after: number): AuditRow[] {
  const rows: AuditRow[] = [];
  let bytes = 0;
  for (const row of audit.rows(after, AUDIT_ROWS)) {
    bytes += row.body.length;
    if (rows.length > 0 && bytes > AUDIT_BYTES) break;
    rows.push(row);
  }
  return rows;
}
