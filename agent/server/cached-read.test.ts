import { expect, it } from 'vitest';
import { cacheRead } from './cached-read.ts';

it('a cached read is shared by all callers until its time is over, also while it lasts and if it failed', async () => {
  let [time, reads] = [0, 0];
  let failure: Error | undefined;
  const read = cacheRead(
    1_000,
    async () => {
      reads++;
      if (failure) throw failure;
      return reads;
    },
    () => time,
  );
  expect(await Promise.all([read(), read(), read()])).toEqual([1, 1, 1]);
  time = 999;
  expect(await read()).toBe(1);
  time = 1_000;
  failure = new Error('no engine');
  await expect(read()).rejects.toBe(failure);
  await expect(read()).rejects.toBe(failure);
  expect(reads).toBe(2);
  failure = undefined;
  time = 2_000;
  expect(await read()).toBe(3);
});
