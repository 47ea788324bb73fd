import { z } from 'zod';
import { NOTICE_EVENTS, type NoticeEvent, SEVERITIES, type Severity } from '../../config/notify.ts';

/** An event as text without secrets. It is stored until it is sent. */
export const Notice = z.object({
  event: z.enum(NOTICE_EVENTS),
  severity: z.enum(SEVERITIES),
  agent: z.string(),
  /** ISO 8601. */
  at: z.string(),
  /** One line: `rollout on stack-media failed`. */
  title: z.string(),
  text: z.string(),
  /** Replaces agent and title: from a channel's template. */
  headline: z.string().optional(),
  /** The code of the failure or refusal. */
  code: z.string().optional(),
  stack: z.string().optional(),
  run: z.string().optional(),
  /** The schedule that started the run. */
  schedule: z.string().optional(),
  /** Page of the workflow run. */
  url: z.string().optional(),
  /** Number of repeats since the last notice of this kind, this one included. */
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

/** Returns the key that notices of the same kind share. */
export function keyOf({ event, code, stack }: Notice): string {
  return [event, code ?? '', stack ?? ''].join(' ');
}
