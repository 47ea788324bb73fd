import { describe, expect, it } from 'vitest';
import { LockQueue } from './lock-queue.ts';

describe('the lock queue', () => {
  it('gives a subject to one run at a time in order of arrival, and names the run that is before', async () => {
    const locks = new LockQueue(10);
    const order: string[] = [];
    const take = (run: string, subjects: string[]) => {
      const { turn, blockedBy } = locks.take(run, subjects);
      void turn.then(() => order.push(run));
      return blockedBy;
    };
    expect(take('1', ['a'])).toBeUndefined();
    expect(take('2', ['a', 'b'])).toEqual({ run: '1', subject: 'a' });
    expect(take('3', ['b'])).toEqual({ run: '2', subject: 'b' });
    expect(take('4', ['c'])).toBeUndefined();
    await Promise.resolve();
    expect(order).toEqual(['1', '4']);
    locks.release('1', ['a']);
    await Promise.resolve();
    expect(order).toEqual(['1', '4', '2']);
    locks.release('2', ['a', 'b']);
    await Promise.resolve();
    expect(order).toEqual(['1', '4', '2', '3']);
  });

  it('keeps to its limit, and lets others pass a run that leaves the queue', async () => {
    const locks = new LockQueue(1);
    const order: string[] = [];
    for (const run of ['1', '2', '3']) void locks.take(run, [run]).turn.then(() => order.push(run));
    locks.release('2', ['2']);
    await Promise.resolve();
    expect(order).toEqual(['1']);
    locks.release('1', ['1']);
    await Promise.resolve();
    expect(order).toEqual(['1', '3']);
  });
});
