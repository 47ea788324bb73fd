import { parseArgs } from 'node:util';
import type { Answer } from '../../protocol/question.ts';
import { AGENT_OPTIONS, findSocket, requestAgent } from './local-client.ts';
import { cliRefusals } from './refusals.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

/** Sends a notice for a trial: to the named channel, or to each of agent.yaml. */
export async function notifyCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS },
  });
  const [verb, channel, ...rest] = positionals;
  if (verb !== 'test' || rest.length > 0) {
    throw cliRefusals.wrongCall(
      'usage: chatops notify test [CHANNEL] [--json] [--config FILE | --socket PATH | --agent …]',
    );
  }
  const body = channel === undefined ? {} : { channel };
  const here = () => requestAgent<{ results: Answer<'notify'> }>(findSocket(values), 'POST', '/notify/test', body);
  const results = (await createRemoteAgent(values)?.ask({ about: 'notify', ...body })) ?? (await here()).results;
  if (values.json) console.log(JSON.stringify(results, null, 2));
  else if (results.length === 0) console.log('There are no channels under notify in agent.yaml.');
  else
    for (const one of results)
      console.log(one.problem === null ? `✓ ${one.channel}` : `✗ ${one.channel}: ${one.problem}`);
  return results.every(({ problem }) => problem === null) ? 0 : 1;
}
