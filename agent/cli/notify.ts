import { parseArgs } from 'node:util';
import { AGENT_OPTIONS, ask, socketOf } from './ask.ts';

/** Sends a notice for a trial: to the named channel, or to each of agent.yaml. */
export async function notify(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: AGENT_OPTIONS });
  const [verb, channel, ...rest] = positionals;
  if (verb !== 'test' || rest.length > 0) {
    process.stderr.write('usage: chatops notify test [CHANNEL] [--json] [--config FILE | --socket PATH]\n');
    return 2;
  }
  const body = channel === undefined ? {} : { channel };
  const { results } = await ask<{ results: { channel: string; problem: string | null }[] }>(
    socketOf(values),
    'POST',
    '/notify/test',
    body,
  );
  if (values.json) console.log(JSON.stringify(results, null, 2));
  else if (results.length === 0) console.log('There are no channels under notify in agent.yaml.');
  else
    for (const one of results)
      console.log(one.problem === null ? `✓ ${one.channel}` : `✗ ${one.channel}: ${one.problem}`);
  return results.every(({ problem }) => problem === null) ? 0 : 1;
}
