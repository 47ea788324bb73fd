import type { Answer } from '../../../protocol/question.ts';
import type { Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { createRemoteAgent } from '../remote.ts';

/** Lists the schedules of an agent: the next time of each, and its last run. */
export async function scheduleCommand(_args: [], options: Options<'schedule'>): Promise<number> {
  const askLocally = () => requestAgent<{ schedules: Answer<'schedules'> }>(findSocket(options), 'GET', '/schedules');
  const schedules = (await createRemoteAgent(options)?.ask({ about: 'schedules' })) ?? (await askLocally()).schedules;
  if (options.json) console.log(JSON.stringify(schedules, null, 2));
  else if (schedules.length === 0) console.log('agent.yaml has no schedules.');
  else for (const schedule of schedules) console.log(formatSchedule(schedule));
  return 0;
}

function formatSchedule({ name, cron, timezone, intent, next, run }: Answer<'schedules'>[number]): string {
  const last = run === null ? '' : `  last: ${run}`;
  return `${name.padEnd(20)}  next ${next?.replace('T', ' ').slice(0, 19) ?? 'never'} UTC  (${cron}, ${timezone})  ${intent}${last}`;
}
