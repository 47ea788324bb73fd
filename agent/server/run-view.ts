import type { StoredRun } from '../store/runs.ts';

/** Returns a run as senders and the command line see it, without the agent's internal fields. */
export function toRunView({ digest, head, command, receipt, ...run }: StoredRun) {
  const { origin, approval, intents } = JSON.parse(command) as Record<string, unknown>;
  const payload = receipt === null ? undefined : (JSON.parse(receipt) as { payload: string }).payload;
  return {
    ...run,
    origin,
    approval,
    intents,
    receipt: payload === undefined ? null : JSON.parse(Buffer.from(payload, 'base64').toString()),
  };
}
