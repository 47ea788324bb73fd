/** What is kept of a schedule: the time that was last seen to (ISO 8601), and the run that it began. */
export interface ScheduleState {
  last: string;
  run: string | null;
}

/** A schedule as it is shown. Times are ISO 8601; `next` is null for one that never comes. */
export interface ListedSchedule extends ScheduleState {
  name: string;
  cron: string;
  timezone: string;
  intent: string;
  next: string | null;
}
