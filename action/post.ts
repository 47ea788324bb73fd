import * as core from '@actions/core';
import { rejoinRun } from '../client/deliver.ts';
import { Origin } from '../protocol/command.ts';
import { readPublicKey, readSecretKey } from '../protocol/keys.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import type { SavedRuns } from './dispatcher.ts';
import { idToken } from './id-token.ts';
import { readOidc } from './inputs.ts';
import type { Log } from './log.ts';

/** The time limit for all runs, in milliseconds. GitHub gives the post steps of a cancelled job five minutes. */
const TIMEOUT = 240_000;

/** Logs the outcome of each run whose receipt the main step did not get, for example because it was killed. */
export async function post(log: Log): Promise<void> {
  const state = core.getState('runs');
  if (!state) return;
  const { runs, origin } = JSON.parse(state) as SavedRuns;
  const deadline = Date.now() + TIMEOUT;
  for (const run of runs) await logOutcome(log, run, Origin.parse(origin), Math.max(1_000, deadline - Date.now()));
}

async function logOutcome(
  log: Log,
  { run, url, key }: SavedRuns['runs'][number],
  origin: Origin,
  timeout: number,
): Promise<void> {
  const signingKey = process.env['INPUT_SIGNING-KEY'] ?? '';
  const delivery = {
    agent: { url, key: readPublicKey(key) },
    key: signingKey === '' ? undefined : readSecretKey(signingKey),
    ...(readOidc(process.env) ? { idToken } : {}),
    connectTimeout: timeout,
    timeout,
    say: () => undefined,
  };
  let receipt: Receipt | undefined;
  try {
    receipt = await rejoinRun(run, { origin }, delivery, timeout);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    await log.line(error.code === 'run-unknown' ? 'The agent did not receive the command.' : error.message);
    return;
  }
  if (receipt) await log.line(`The run ${run} ended on the host: ${receipt.outcome}. ${receipt.message ?? ''}`);
  else
    await log.command(
      'warning',
      `The outcome of the run ${run} is not known: it has not ended, or the agent can't be reached. Look at the host.`,
    );
}
