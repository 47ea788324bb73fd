import * as core from '@actions/core';
import { rejoinRun } from '../client/deliver.ts';
import { Origin } from '../protocol/command.ts';
import { readPublicKey, readSecretKey } from '../protocol/keys.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { idToken } from './id-token.ts';
import { readOidc } from './inputs.ts';
import type { Log } from './log.ts';
import type { Saved } from './one-run.ts';

/** GitHub gives a cancelled job's post steps five minutes, in which an undo should have come to its end. */
const PATIENCE = 240_000;

/** After the job: where the main step ended without its run's receipt, comes back to the run and tells the truth. */
export async function post(log: Log): Promise<void> {
  const state = core.getState('runs');
  if (!state) return;
  const { runs, origin } = JSON.parse(state) as Saved;
  const over = Date.now() + PATIENCE;
  for (const one of runs) await tellEnd(log, one, Origin.parse(origin), Math.max(1_000, over - Date.now()));
}

async function tellEnd(
  log: Log,
  { run, url, key }: Saved['runs'][number],
  origin: Origin,
  patience: number,
): Promise<void> {
  const signingKey = process.env['INPUT_SIGNING-KEY'] ?? '';
  const delivery = {
    agent: { url, key: readPublicKey(key) },
    key: signingKey === '' ? undefined : readSecretKey(signingKey),
    ...(readOidc(process.env) ? { idToken } : {}),
    connectTimeout: patience,
    timeout: patience,
    log: () => undefined,
  };
  let receipt: Receipt | undefined;
  try {
    receipt = await rejoinRun(run, { origin }, delivery, patience);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    await log.line(error.code === 'run-unknown' ? 'The agent never got the command.' : error.message);
    return;
  }
  if (receipt) await log.line(`The run ${run} ended ${receipt.outcome} at the host. ${receipt.message ?? ''}`);
  else
    await log.command(
      'warning',
      `The run ${run} has not ended yet, or the agent can't be reached. It goes on at the host.`,
    );
}
