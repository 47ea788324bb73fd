import { stackOf } from '../../intents/intent.ts';
import type { Outcome } from '../../protocol/event.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { Receipt, ReceiptDocument } from '../../protocol/receipt.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { type DocumentIndex, indexed, numberOf } from './document-index.ts';

/** The code of a document that succeeded and was undone because a later one failed. */
export const UNDONE_CODE = 'undone';

const SKIPPED: DocumentResult = { outcome: 'skipped' };

/** Builds the receipt of a run from the results of its documents. */
export function makeReceipt(
  admitted: AdmittedCommand,
  agent: string,
  results: readonly (DocumentResult | undefined)[],
  run: {
    events: number;
    head: string;
    startedAt: string;
    finishedAt: string;
    audit?: { n: number; digest: string };
    planDigest?: string;
    baselines?: readonly { stack: string; intent: string; sha: string }[];
  },
): Receipt {
  const documents: ReceiptDocument[] = indexed(admitted.documents).map(([index, { document }]) => {
    const result = results[index] ?? SKIPPED;
    const stack = stackOf(document.intent);
    const baseline = run.baselines?.find(one => one.stack === stack && one.intent === document.name)?.sha;
    return {
      document: numberOf(index),
      ...(document.intent.id === undefined ? {} : { id: document.intent.id }),
      name: document.name,
      action: document.intent.action,
      stack,
      ...('service' in document.intent && document.intent.service !== undefined
        ? { service: document.intent.service }
        : {}),
      ...(admitted.sender.rules[index] === undefined ? {} : { rule: admitted.sender.rules[index] }),
      outcome: result.outcome,
      steps: result.steps ?? [],
      images: result.images ?? [],
      files: result.files ?? { written: [], removed: [] },
      ...(baseline !== undefined && result.outcome === 'succeeded' ? { baseline } : {}),
      ...(result.backup === undefined ? {} : { backup: result.backup }),
      ...(result.drill === undefined ? {} : { drill: result.drill }),
      ...(result.restorePoints === undefined ? {} : { restore_points: result.restorePoints }),
    };
  });
  const failedIndex = findFailure(results);
  const failed = failedIndex === undefined ? undefined : results[failedIndex];
  return {
    run: admitted.command.id,
    agent,
    outcome: runOutcomeOf(results, failed),
    ...(failed?.code === undefined ? {} : { reason: failed.code }),
    ...(failed?.message === undefined ? {} : { message: failed.message }),
    ...(failed?.remedy === undefined ? {} : { remedy: failed.remedy }),
    ...(failedIndex === undefined || failed?.failedStep === undefined
      ? {}
      : { failed_step: { document: numberOf(failedIndex), step: failed.failedStep } }),
    changed: results.some(result => result?.changed === true),
    documents,
    events: run.events,
    events_digest: run.head,
    ...(run.audit === undefined ? {} : { audit: { rows: run.audit.n, digest: run.audit.digest } }),
    ...(run.planDigest === undefined ? {} : { plan_digest: run.planDigest }),
    started_at: run.startedAt,
    finished_at: run.finishedAt,
  };
}

/** Returns the document whose failure the receipt reports: one that could not be undone before the first that failed. */
function findFailure(results: readonly (DocumentResult | undefined)[]): DocumentIndex | undefined {
  const entries = indexed(results);
  const failed =
    entries.find(([, result]) => result?.code === 'undo-failed') ??
    entries.find(
      ([, result]) =>
        result && !['succeeded', 'planned', 'skipped'].includes(result.outcome) && result.code !== UNDONE_CODE,
    );
  return failed?.[0];
}

/** Returns `rolled-back` for a failed run if every change that it made was undone. */
function runOutcomeOf(results: readonly (DocumentResult | undefined)[], failed: DocumentResult | undefined): Outcome {
  const outcomes = results.flatMap(result => (result && result.outcome !== 'skipped' ? [result.outcome] : []));
  if (!failed) return outcomes.includes('succeeded') ? 'succeeded' : (outcomes[0] ?? 'cancelled');
  const hasUndone = results.some(result => result?.code === UNDONE_CODE);
  if (failed.outcome === 'failed' && hasUndone && !results.some(result => result?.changed === true))
    return 'rolled-back';
  return failed.outcome === 'skipped' ? 'cancelled' : failed.outcome;
}

/** Returns the signed receipt as text, for the wire and for the store. */
export function signReceipt(receipt: Receipt, keys: readonly SecretKey[]): string {
  return JSON.stringify({
    type: 'receipt',
    ...signPayload(PAYLOAD_TYPES.receipt, Buffer.from(JSON.stringify(receipt)), keys),
  });
}

export const CANCELLED_BEFORE: DocumentResult = {
  outcome: 'cancelled',
  code: 'cancelled',
  message: 'Cancelled before this document.',
  changed: false,
};

export const CANCELLED_WAITING: DocumentResult = {
  ...CANCELLED_BEFORE,
  message: 'Cancelled while the run was waiting.',
};

/** Returns the result of a document whose execution threw an error: a bug of the agent. */
export function faultResult(error: unknown): DocumentResult {
  return {
    outcome: 'interrupted',
    code: 'fault',
    message: `Internal error in the agent: ${messageOf(error)}`,
    remedy: 'Check the host’s state and the agent’s log, and report this with the log.',
    changed: true,
  };
}
