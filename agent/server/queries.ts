import type { Answer, Question } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import { VERSION } from '../../protocol/version.ts';
import type { AuthenticatedSender } from '../admission/authenticate.ts';
import { simulatePolicy } from '../admission/simulate.ts';
import type { Config } from '../config/load.ts';
import { diagnoseHost, passed } from '../diagnostics/doctor.ts';
import { refusals } from '../refusals.ts';
import type { RunRegistry } from '../runs/registry.ts';
import type { AuditLog, AuditRow } from '../store/audit-log.ts';
import type { StoredRun } from '../store/runs.ts';
import type { ListedSchedule } from '../store/schedules.ts';
import { toRunView } from './run-view.ts';

/** Of whom answers are had. */
export interface QueryDeps {
  /** agent.yaml's path. */
  file: string;
  config: () => Config;
  runs: RunRegistry;
  audit: AuditLog;
  schedules: () => ListedSchedule[];
  notifyTest: (channel: string | undefined) => Promise<Answer<'notify'>>;
}

/** Rows of the audit are read so many at a time, and a part holds about so many bytes of them. */
const AUDIT_ROWS = 500;
const AUDIT_BYTES = 2 ** 20;

/** What a sender who may ask is told, part by part. Throws `Refused`. */
export async function* answerQuestion(
  question: Question,
  { entry }: AuthenticatedSender,
  { file, config, runs, audit, schedules, notifyTest }: QueryDeps,
): AsyncGenerator<Answer<Question['about']>> {
  switch (question.about) {
    case 'run':
      yield toRunView(requireOwnRun(question.run, entry.name, runs));
      break;
    case 'schedules':
      yield schedules();
      break;
    case 'audit':
      yield* readAuditPages(audit, question.after);
      break;
    case 'doctor':
      yield await diagnoseHost(file, async () =>
        passed('the agent', `runs, and answers on ${config().listen}: ${VERSION}`),
      );
      break;
    case 'notify':
      yield await notifyTest(question.channel);
      break;
    case 'policy':
      yield question.supposed.map(one => simulatePolicy(one, config().trust));
  }
}

/** A run that this entry of trust began. Throws `Refused`. */
export function requireOwnRun(id: string, entry: string, runs: RunRegistry): StoredRun {
  const run = runs.store.find(id);
  if (!run) throw new Refused(refusals.runUnknown(id));
  if (run.trust !== entry) throw new Refused(refusals.notYourRun(id));
  return run;
}

/** The rows that there are when it begins, at least one part. */
function* readAuditPages(audit: AuditLog, after: number): Generator<AuditRow[]> {
  const last = audit.head.n;
  for (let n = after; ; ) {
    const rows = readAuditPage(audit, n).filter(row => row.n <= last);
    yield rows;
    n = rows.at(-1)?.n ?? last;
    if (n >= last) return;
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
