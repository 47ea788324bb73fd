import type { Answer } from '../../../protocol/question.ts';
import type { Arguments, Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { createRemoteAgent } from '../remote.ts';

/** Sends a test notice to the named channel, or to each channel of agent.yaml. */
export async function notifyTestCommand(
  [channel]: Arguments<'notify test'>,
  options: Options<'notify test'>,
): Promise<number> {
  const body = channel === undefined ? {} : { channel };
  const askLocally = () =>
    requestAgent<{ results: Answer<'notify'> }>(findSocket(options), 'POST', '/notify/test', body);
  const results = (await createRemoteAgent(options)?.ask({ about: 'notify', ...body })) ?? (await askLocally()).results;
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else if (results.length === 0) console.log('agent.yaml has no channels under notify.');
  else
    for (const { channel: name, problem } of results)
      console.log(problem === null ? `✓ ${name}` : `✗ ${name}: ${problem}`);
  return results.every(({ problem }) => problem === null) ? 0 : 1;
}
