/** A recurring time of the week in a zone: `Mon-Fri 07:00-22:00 Europe/Berlin`. */
export interface TimeWindow {
  /** 0 is Sunday. */
  days: ReadonlySet<number>;
  /** Minutes since midnight. `to` before `from`: past midnight; the window belongs to the day on which it starts. */
  from: number;
  to: number;
  zone: string;
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const FORM = /^(?:([a-z,-]+)\s+)?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)(?:\s+(\S+))?$/i;

/** Returns undefined if the text is not a window. Without days it is every day, without a zone UTC. */
export function parseWindow(text: string): TimeWindow | undefined {
  const [, days, hour, minute, endHour, endMinute, zone = 'UTC'] = FORM.exec(text.trim()) ?? [];
  if (hour === undefined || !isZone(zone)) return undefined;
  const from = Number(hour) * 60 + Number(minute);
  const to = Number(endHour) * 60 + Number(endMinute);
  const weekdays = days === undefined ? new Set(DAYS.keys()) : daysOf(days.toLowerCase());
  return weekdays === undefined || from === to || to > 24 * 60 ? undefined : { days: weekdays, from, to, zone };
}

/** Returns true if the time is in the window. */
export function isWithin({ days, from, to, zone }: TimeWindow, at: Date): boolean {
  const { day, minutes } = localTime(at, zone);
  if (from < to) return days.has(day) && minutes >= from && minutes < to;
  return (days.has(day) && minutes >= from) || (days.has((day + 6) % 7) && minutes < to);
}

const MINUTE = 60_000;

/** Returns how long the window stays open, in milliseconds: to the end of a minute, at most a week. */
export function remainingTime(window: TimeWindow, at: Date): number {
  let minutes = 0;
  while (minutes < 7 * 24 * 60 && isWithin(window, new Date(at.getTime() + minutes * MINUTE))) minutes++;
  return minutes === 0 ? 0 : minutes * MINUTE - (at.getTime() % MINUTE);
}

function daysOf(text: string): Set<number> | undefined {
  const found = new Set<number>();
  for (const part of text.split(',')) {
    const [first = '', last = first, ...rest] = part.split('-');
    const from = DAYS.indexOf(first);
    const to = DAYS.indexOf(last);
    if (from < 0 || to < 0 || rest.length > 0) return undefined;
    for (let day = from; ; day = (day + 1) % 7) {
      found.add(day);
      if (day === to) break;
    }
  }
  return found;
}

function localTime(at: Date, zone: string): { day: number; minutes: number } {
  const parts = new Intl.DateTimeFormat('en-GB', {
    timeZone: zone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  }).formatToParts(at);
  const part = (type: string) => parts.find(one => one.type === type)?.value ?? '';
  return {
    day: DAYS.indexOf(part('weekday').toLowerCase()),
    minutes: Number(part('hour')) * 60 + Number(part('minute')),
  };
}

/** Returns true if that is the name of a time zone. */
export function isZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}
