import { stackOf } from '../../intents/intent.ts';
import type { Outcome } from '../../protocol/event.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { Receipt, ReceiptDocument } from '../../protocol/receipt.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { UNDONE_CODE } from './execute.ts';

const SKIPPED: DocumentResult = { outcome: 'skipped' };

/** Puts together the last word on a run from what became of its documents. */
export function makeReceipt(
  admitted: AdmittedCommand,
  agent: string,
  endings: readonly (DocumentResult | undefined)[],
  run: {
    events: number;
    head: string;
    startedAt: string;
    finishedAt: string;
    audit?: { n: number; digest: string };
    planDigest?: string;
  },
): Receipt {
  const documents: ReceiptDocument[] = admitted.documents.map(({ document }, index) => {
    const ending = endings[index] ?? SKIPPED;
    return {
      document: index + 1,
      ...(document.intent.id === undefined ? {} : { id: document.intent.id }),
      name: document.name,
      action: document.intent.action,
      stack: stackOf(document.intent),
      ...('service' in document.intent && document.intent.service !== undefined
        ? { service: document.intent.service }
        : {}),
      ...(admitted.sender.rules[index] === undefined ? {} : { rule: admitted.sender.rules[index] }),
      outcome: ending.outcome,
      steps: ending.steps ?? [],
      images: ending.images ?? [],
      files: ending.files ?? { written: [], removed: [] },
      ...(ending.backup === undefined ? {} : { backup: ending.backup }),
      ...(ending.drill === undefined ? {} : { drill: ending.drill }),
      ...(ending.restorePoints === undefined ? {} : { restore_points: ending.restorePoints }),
    };
  });
  const failedAt = findFailure(endings);
  const failed = endings[failedAt];
  return {
    run: admitted.command.id,
    agent,
    outcome: runOutcomeOf(endings, failed),
    ...(failed?.code === undefined ? {} : { reason: failed.code }),
    ...(failed?.message === undefined ? {} : { message: failed.message }),
    ...(failed?.remedy === undefined ? {} : { remedy: failed.remedy }),
    ...(failed?.failedStep === undefined ? {} : { failed_step: { document: failedAt + 1, step: failed.failedStep } }),
    changed: endings.some(ending => ending?.changed === true),
    documents,
    events: run.events,
    events_digest: run.head,
    ...(run.audit === undefined ? {} : { audit: { rows: run.audit.n, digest: run.audit.digest } }),
    ...(run.planDigest === undefined ? {} : { plan_digest: run.planDigest }),
    started_at: run.startedAt,
    finished_at: run.finishedAt,
  };
}

/** The place of the ending that the run is told by: what could not be undone before what failed first; -1 where nothing did. */
function findFailure(endings: readonly (DocumentResult | undefined)[]): number {
  const broke = endings.findIndex(ending => ending?.code === 'undo-failed');
  if (broke >= 0) return broke;
  return endings.findIndex(
    ending => ending && !['succeeded', 'planned', 'skipped'].includes(ending.outcome) && ending.code !== UNDONE_CODE,
  );
}

/** How the run ended. Where everything that it had changed is as it was before, that is `rolled-back`. */
function runOutcomeOf(endings: readonly (DocumentResult | undefined)[], failed: DocumentResult | undefined): Outcome {
  const all = endings.flatMap(ending => (ending && ending.outcome !== 'skipped' ? [ending.outcome] : []));
  if (!failed) return all.includes('succeeded') ? 'succeeded' : (all[0] ?? 'cancelled');
  const isUndone = endings.some(ending => ending?.code === UNDONE_CODE);
  if (failed.outcome === 'failed' && isUndone && !endings.some(ending => ending?.changed === true))
    return 'rolled-back';
  return failed.outcome === 'skipped' ? 'cancelled' : failed.outcome;
}

/** The receipt as it goes over the wire and into the store. */
export function signReceipt(receipt: Receipt, keys: readonly SecretKey[]): string {
  return JSON.stringify({
    type: 'receipt',
    ...signPayload(PAYLOAD_TYPES.receipt, Buffer.from(JSON.stringify(receipt)), keys),
  });
}

/** Cancelled before its turn came. */
export const CANCELLED_BEFORE: DocumentResult = {
  outcome: 'cancelled',
  code: 'cancelled',
  message: 'Cancelled before this document.',
  changed: false,
};

export const CANCELLED_WAITING: DocumentResult = { ...CANCELLED_BEFORE, message: 'Cancelled while it was waiting.' };

/** Something that should not happen did. */
export function faultResult(error: unknown): DocumentResult {
  return {
    outcome: 'interrupted',
    code: 'fault',
    message: `The agent made a mistake of its own: ${messageOf(error)}`,
    remedy: 'Look at the host’s state and the agent’s log, and report this with the log.',
    changed: true,
  };
}
