import { Cron } from 'croner';
import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { isZone } from './time-windows.ts';
import { ConfigName } from './trust.ts';

/** A schedule of agent.yaml. */
export const Schedule = z.strictObject({
  name: ConfigName,
  cron: z.string().min(1).max(200).describe('"0 3 * * *": minute, hour, day, month, weekday.'),
  timezone: z
    .string()
    .refine(isZone, { error: 'Expected a zone such as "Europe/Berlin"' })
    .default('UTC')
    .describe('Follows daylight saving time: a skipped time runs at the first valid one; a repeated time runs once.'),
  intent: ConfigName.describe('A file in intents_dir, without its extension.'),
  params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).default({}),
  jitter: Duration.optional().describe('The longest delay after the time; the same time always has the same delay.'),
  catch_up: z
    .enum(['once', 'none'])
    .default('once')
    .describe('The times that the agent missed while it was down: run the last one, or none.'),
});
export type Schedule = z.infer<typeof Schedule>;

export function cronOf({ cron, timezone }: Pick<Schedule, 'cron' | 'timezone'>): Cron {
  return new Cron(cron, { timezone, paused: true });
}

/** Returns the reason if the text is not a cron expression that ever fires, else undefined. */
export function explainInvalidCron(cron: string, timezone: string): string | undefined {
  try {
    return cronOf({ cron, timezone }).nextRun() ? undefined : 'it never comes';
  } catch (error) {
    return messageOf(error);
  }
}
