import { appendFileSync } from 'node:fs';
import * as core from '@actions/core';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import type { Log } from './log.ts';
import { type GraphSummary, summariesOf, summaryOfGraph, summaryOfRefusal, summaryOfWaiting } from './summary.ts';
import type { WaitingChange } from './waiting.ts';

/** The values of the outputs. */
export interface ActionResult {
  status: string;
  reason: string;
  message: string;
  remedy: string;
  run: string;
  changed: boolean;
  receipts: Receipt[];
  /** Only of a plan: the reasons why a deployment of its commit would be refused. */
  waiting?: readonly WaitingChange[] | undefined;
}

/** Sets the outputs, writes the job summary and, if the outcome is bad, fails the job with code and remedy. */
export async function conclude(
  log: Log,
  receipts: Receipt[],
  {
    refusal,
    graph,
    waiting,
  }: { refusal?: Refusal | undefined; graph?: GraphSummary; waiting?: WaitingChange[] | undefined } = {},
): Promise<void> {
  // The receipts of documents that start after a failure, and of undone ones, come after its own.
  const last = receipts.find(({ outcome }) => outcome !== 'succeeded' && outcome !== 'planned') ?? receipts.at(-1);
  const result: ActionResult = {
    status: refusal ? 'refused' : (last?.outcome ?? 'refused'),
    reason: refusal?.code ?? last?.reason ?? '',
    message: refusal?.message ?? last?.message ?? '',
    remedy: refusal?.remedy ?? last?.remedy ?? '',
    run: last?.run ?? '',
    changed: receipts.some(receipt => receipt.changed),
    receipts,
    waiting,
  };
  setOutputs(result);
  writeSummary(
    [
      ...(graph ? [summaryOfGraph(graph)] : []),
      ...summariesOf(receipts),
      ...(waiting?.length ? [summaryOfWaiting(waiting)] : []),
      ...(refusal ? [summaryOfRefusal(refusal)] : []),
    ].join('\n'),
  );
  if (result.status === 'succeeded' || result.status === 'planned') return;
  process.exitCode = 1;
  await log.command(
    'error',
    `${result.message || `The outcome of the run is ${result.status}.`} ${result.remedy}`.trim(),
    {
      title: `${result.status}${result.reason ? `: ${result.reason}` : ''}`,
    },
  );
}

export function setOutputs({ status, reason, message, remedy, run, changed, receipts, waiting }: ActionResult): void {
  core.setOutput('status', status);
  core.setOutput('reason', reason);
  core.setOutput('run-id', run);
  core.setOutput('changed', changed);
  core.setOutput('plan-digest', receipts.flatMap(receipt => receipt.plan_digest ?? []).join('\n'));
  core.setOutput(
    'result',
    JSON.stringify({ schema_version: 1, status, reason, message, remedy, run, changed, receipts, waiting }),
  );
}

export function writeSummary(text: string): void {
  const file = process.env.GITHUB_STEP_SUMMARY;
  if (file) appendFileSync(file, `${text}\n`);
}
