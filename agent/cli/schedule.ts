import { parseArgs } from 'node:util';
import type { ListedSchedule } from '../schedule.ts';
import { AGENT_OPTIONS, ask, socketOf } from './ask.ts';

/** The agent's schedules: when each comes next, and what it last began. */
export async function schedule(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: AGENT_OPTIONS });
  const { schedules } = await ask<{ schedules: ListedSchedule[] }>(socketOf(values), 'GET', '/schedules');
  if (values.json) console.log(JSON.stringify(schedules, null, 2));
  else if (schedules.length === 0) console.log('There are no schedules in agent.yaml.');
  else for (const one of schedules) console.log(lineOf(one));
  return 0;
}

function lineOf({ name, cron, timezone, intent, next, run }: ListedSchedule): string {
  const last = run === null ? '' : `  last: ${run}`;
  return `${name.padEnd(20)}  next ${next?.replace('T', ' ').slice(0, 19) ?? 'never'} UTC  (${cron}, ${timezone})  ${intent}${last}`;
}
