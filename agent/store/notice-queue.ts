import type { Database } from './database.ts';

/** Creates the queue of notices in the agent's database. */
export function createNoticeQueue(db: Database): NoticeQueue {
  return {
    add(channel, next, notice) {
      db.setDurable(false);
      db.run('INSERT INTO notices (channel, next, tries, notice) VALUES (?, ?, 0, ?)', [channel, next, notice]);
    },
    due: (channel, now, limit) =>
      db.all<QueuedNotice>(
        'SELECT id, channel, next, tries, notice FROM notices WHERE channel = ? AND next <= ? ORDER BY next, id LIMIT ?',
        [channel, now, limit],
      ),
    count: channel =>
      db.get<{ count: number }>('SELECT count(*) AS count FROM notices WHERE channel = ?', [channel])?.count ?? 0,
    retry: (id, tries, next) => db.run('UPDATE notices SET tries = ?, next = ? WHERE id = ?', [tries, next, id]),
    remove: id => db.run('DELETE FROM notices WHERE id = ?', [id]),
  };
}

/** A notice that waits for delivery. Times are milliseconds since 1970. */
export interface QueuedNotice {
  id: number;
  channel: string;
  next: number;
  tries: number;
  notice: string;
}

export interface NoticeQueue {
  add: (channel: string, next: number, notice: string) => void;
  /** Returns the oldest due notices, at most `limit`. */
  due: (channel: string, now: number, limit: number) => QueuedNotice[];
  count: (channel: string) => number;
  retry: (id: number, tries: number, next: number) => void;
  remove: (id: number) => void;
}
