import { z } from 'zod';
import { NOTICE_EVENTS, type NoticeEvent, SEVERITIES, type Severity } from '../../config/notify.ts';

/** Something that happened, in words without secrets. Kept on the disk until it is told. */
export const Notice = z.object({
  event: z.enum(NOTICE_EVENTS),
  severity: z.enum(SEVERITIES),
  agent: z.string(),
  /** ISO 8601. */
  at: z.string(),
  /** One line: `rollout on stack-media failed`. */
  title: z.string(),
  text: z.string(),
  /** A channel's own words in place of agent and title. */
  headline: z.string().optional(),
  /** The stable code, where there is one. */
  code: z.string().optional(),
  stack: z.string().optional(),
  run: z.string().optional(),
  /** The schedule that began the run. */
  schedule: z.string().optional(),
  /** Where the workflow run is looked at. */
  url: z.string().optional(),
  /** How often it happened since it was last told; 1 where only this once. */
  count: z.number().default(1),
});

export type Notice = z.infer<typeof Notice>;

const SEVERITY: Record<NoticeEvent, Severity> = {
  succeeded: 'info',
  cancelled: 'warning',
  failed: 'error',
  'rolled-back': 'error',
  interrupted: 'error',
  refused: 'warning',
  'label-mismatch': 'warning',
  'address-refused': 'warning',
  'auth-failure': 'error',
  'schedule-failed': 'error',
};

export function severityOf(event: NoticeEvent): Severity {
  return SEVERITY[event];
}

/** What is the same thing again. */
export function keyOf({ event, code, stack }: Notice): string {
  return [event, code ?? '', stack ?? ''].join(' ');
}
