/** The stored state of a schedule: the last time that was handled (ISO 8601), and the run that it started. */
export interface ScheduleState {
  last: string;
  run: string | null;
}

/** A schedule in a list. Times are ISO 8601; `next` is null if there is no next time. */
export interface ListedSchedule extends ScheduleState {
  name: string;
  cron: string;
  timezone: string;
  intent: string;
  next: string | null;
}
