import type { Answer, Question } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import { VERSION } from '../../protocol/version.ts';
import type { Trusted } from '../admission/authenticate.ts';
import { suppose } from '../admission/simulate.ts';
import type { Config } from '../config/load.ts';
import { examine, good } from '../diagnostics/doctor.ts';
import { refusals } from '../refusals.ts';
import type { Runs } from '../runs/registry.ts';
import type { AuditChain, AuditRow } from '../store/audit-log.ts';
import type { StoredRun } from '../store/runs.ts';
import type { ListedSchedule } from '../store/schedules.ts';
import { tellRun } from './run-view.ts';

/** Of whom answers are had. */
export interface Knowing {
  /** agent.yaml's path. */
  file: string;
  config: () => Config;
  runs: Runs;
  audit: AuditChain;
  schedules: () => ListedSchedule[];
  notifyTest: (channel: string | undefined) => Promise<Answer<'notify'>>;
}

/** Rows of the audit are read so many at a time, and a part holds about so many bytes of them. */
const AUDIT_ROWS = 500;
const AUDIT_BYTES = 2 ** 20;

/** What a sender who may ask is told, part by part. Throws `Refused`. */
export async function* answer(
  question: Question,
  { entry }: Trusted,
  { file, config, runs, audit, schedules, notifyTest }: Knowing,
): AsyncGenerator<Answer<Question['about']>> {
  switch (question.about) {
    case 'run':
      yield tellRun(ownRun(question.run, entry.name, runs));
      break;
    case 'schedules':
      yield schedules();
      break;
    case 'audit':
      yield* pages(audit, question.after);
      break;
    case 'doctor':
      yield await examine(file, async () => good('the agent', `runs, and answers on ${config().listen}: ${VERSION}`));
      break;
    case 'notify':
      yield await notifyTest(question.channel);
      break;
    case 'policy':
      yield question.supposed.map(one => suppose(one, config().trust));
  }
}

/** A run that this entry of trust began. Throws `Refused`. */
export function ownRun(id: string, entry: string, runs: Runs): StoredRun {
  const run = runs.find(id);
  if (!run) throw new Refused(refusals.runUnknown(id));
  if (run.trust !== entry) throw new Refused(refusals.notYourRun(id));
  return run;
}

/** The rows that there are when it begins, at least one part. */
function* pages(audit: AuditChain, after: number): Generator<AuditRow[]> {
  const last = audit.head.n;
  for (let n = after; ; ) {
    const rows = page(audit, n).filter(row => row.n <= last);
    yield rows;
    n = rows.at(-1)?.n ?? last;
    if (n >= last) return;
  }
}

function page(audit: AuditChain, after: number): AuditRow[] {
  const rows: AuditRow[] = [];
  let bytes = 0;
  for (const row of audit.rows(after, AUDIT_ROWS)) {
    bytes += row.body.length;
    if (rows.length > 0 && bytes > AUDIT_BYTES) break;
    rows.push(row);
  }
  return rows;
}
