import { Cron } from 'croner';
import { messageOf } from '../../protocol/refusal.ts';

/** A schedule as agent.yaml has it. */
export interface Schedule {
  name: string;
  cron: string;
  timezone: string;
  intent: string;
  params: Record<string, string | number | boolean>;
  jitter?: string | undefined;
  catch_up: 'once' | 'none';
}

export function cronOf({ cron, timezone }: Pick<Schedule, 'cron' | 'timezone'>): Cron {
  return new Cron(cron, { timezone, paused: true });
}

/** Why the text is no cron that ever fires; undefined where it is one. */
export function explainInvalidCron(cron: string, timezone: string): string | undefined {
  try {
    return cronOf({ cron, timezone }).nextRun() ? undefined : 'it never comes';
  } catch (error) {
    return messageOf(error);
  }
}
