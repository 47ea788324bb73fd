import { Cron } from 'croner';
import { type Digest, SEVERITIES } from '../../config/notify.ts';
import type { Notice } from './notice.ts';

/** Notices that one digest lists; earlier ones are counted. */
const MAX_LISTED = 40;

/** Returns the time of the next digest, in milliseconds since 1970. */
export function nextDigest({ cron, timezone }: Digest, now: number): number {
  return new Cron(cron, { timezone, paused: true }).nextRun(new Date(now))?.getTime() ?? now;
}

/** Merges notices into one: counted by event, and listed with their times. A single notice stays as it is. */
export function createDigestNotice(notices: Notice[]): Notice {
  const [first, ...others] = notices;
  if (!first) throw new RangeError('No notices');
  if (others.length === 0) return first;
  const counts = new Map<string, number>();
  for (const { event, count } of notices) counts.set(event, (counts.get(event) ?? 0) + count);
  const worst = Math.max(...notices.map(({ severity }) => SEVERITIES.indexOf(severity)));
  const lines = notices.slice(-MAX_LISTED).map(({ at, title, code, count }) => {
    const reason = code === undefined ? '' : ` (${code})`;
    return `${at.slice(5, 16).replace('T', ' ')} ${title}${reason}${count > 1 ? `, ${count} times` : ''}`;
  });
  const left = notices.length - lines.length;
  return {
    event: notices.find(({ severity }) => severity === SEVERITIES[worst])?.event ?? first.event,
    severity: SEVERITIES[worst] ?? 'info',
    agent: first.agent,
    at: notices.at(-1)?.at ?? first.at,
    title: `${notices.length} notices: ${[...counts].map(([event, count]) => `${count} ${event}`).join(', ')}`,
    text: [...(left > 0 ? [`${left} earlier ones`] : []), ...lines].join('\n'),
    count: 1,
  };
}
