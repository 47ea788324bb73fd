import type { Queue, Waiting } from '../observability/notify/notifier.ts';
import type { Database } from './database.ts';

/** Notices that wait, in the agent's database. */
export function createQueue(db: Database): Queue {
  return {
    add(channel, next, notice) {
      db.durable(false);
      db.run('INSERT INTO notices (channel, next, tries, notice) VALUES (?, ?, 0, ?)', [channel, next, notice]);
    },
    due: (channel, now, most) =>
      db.all<Waiting>(
        'SELECT id, channel, next, tries, notice FROM notices WHERE channel = ? AND next <= ? ORDER BY next, id LIMIT ?',
        [channel, now, most],
      ),
    count: channel =>
      db.get<{ count: number }>('SELECT count(*) AS count FROM notices WHERE channel = ?', [channel])?.count ?? 0,
    retry: (id, tries, next) => db.run('UPDATE notices SET tries = ?, next = ? WHERE id = ?', [tries, next, id]),
    remove: id => db.run('DELETE FROM notices WHERE id = ?', [id]),
  };
}
