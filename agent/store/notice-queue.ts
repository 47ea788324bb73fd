import type { Database } from './database.ts';

/** Notices that wait, in the agent's database. */
export function createNoticeQueue(db: Database): NoticeQueue {
  return {
    add(channel, next, notice) {
      db.setDurable(false);
      db.run('INSERT INTO notices (channel, next, tries, notice) VALUES (?, ?, 0, ?)', [channel, next, notice]);
    },
    due: (channel, now, most) =>
      db.all<QueuedNotice>(
        'SELECT id, channel, next, tries, notice FROM notices WHERE channel = ? AND next <= ? ORDER BY next, id LIMIT ?',
        [channel, now, most],
      ),
    count: channel =>
      db.get<{ count: number }>('SELECT count(*) AS count FROM notices WHERE channel = ?', [channel])?.count ?? 0,
    retry: (id, tries, next) => db.run('UPDATE notices SET tries = ?, next = ? WHERE id = ?', [tries, next, id]),
    remove: id => db.run('DELETE FROM notices WHERE id = ?', [id]),
  };
}

/** A notice that waits for its turn. Times are in milliseconds since 1970. */
export interface QueuedNotice {
  id: number;
  channel: string;
  next: number;
  tries: number;
  notice: string;
}

export interface NoticeQueue {
  add: (channel: string, next: number, notice: string) => void;
  /** The first ones, at most so many. */
  due: (channel: string, now: number, most: number) => QueuedNotice[];
  count: (channel: string) => number;
  retry: (id: number, tries: number, next: number) => void;
  remove: (id: number) => void;
}
