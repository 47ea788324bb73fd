import { parseArgs } from 'node:util';
import type { Answer } from '../../protocol/question.ts';
import { AGENT_OPTIONS, findSocket, requestAgent } from './local-client.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

/** An agent's schedules: when each comes next, and what it last began. */
export async function scheduleCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS } });
  const here = () => requestAgent<{ schedules: Answer<'schedules'> }>(findSocket(values), 'GET', '/schedules');
  const schedules = (await createRemoteAgent(values)?.ask({ about: 'schedules' })) ?? (await here()).schedules;
  if (values.json) console.log(JSON.stringify(schedules, null, 2));
  else if (schedules.length === 0) console.log('There are no schedules in agent.yaml.');
  else for (const one of schedules) console.log(formatSchedule(one));
  return 0;
}

function formatSchedule({ name, cron, timezone, intent, next, run }: Answer<'schedules'>[number]): string {
  const last = run === null ? '' : `  last: ${run}`;
  return `${name.padEnd(20)}  next ${next?.replace('T', ' ').slice(0, 19) ?? 'never'} UTC  (${cron}, ${timezone})  ${intent}${last}`;
}
