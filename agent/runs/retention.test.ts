import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RetentionLimits } from './registry.ts';
import { startRetention } from './retention.ts';

const HOUR = 3_600_000;
const history = { keep: '90d', max_runs: 100, max_size: '1GiB' };

beforeEach(() => void vi.useFakeTimers({ now: new Date('2026-11-21T12:00:00Z') }));
afterEach(() => void vi.useRealTimers());

/** Starts retention with a registry that only records its calls. */
function start(prune = async (_: RetentionLimits) => 0) {
  const calls: RetentionLimits[] = [];
  const stop = startRetention(
    {
      prune: limits => {
        calls.push(limits);
        return prune(limits);
      },
    },
    () => ({ history }),
  );
  return { calls, stop };
}

describe('retention of runs', () => {
  it('prunes one second after the start and then every hour, until it is stopped', () => {
    const { calls, stop } = start();
    expect(calls).toHaveLength(0);
    vi.advanceTimersByTime(1_000);
    expect(calls).toEqual([{ before: '2026-08-23T12:00:01.000Z', runs: 100, bytes: 2 ** 30 }]);
    vi.advanceTimersByTime(2 * HOUR);
    expect(calls).toHaveLength(3);
    stop();
    vi.advanceTimersByTime(2 * HOUR);
    expect(calls).toHaveLength(3);
  });

  it('logs a failure and prunes again an hour later', async () => {
    const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const error = new Error('disk full');
    const { calls, stop } = start(() => Promise.reject(error));
    await vi.advanceTimersByTimeAsync(HOUR);
    expect(calls).toHaveLength(2);
    expect(logged).toHaveBeenCalledWith('history:', error);
    stop();
    logged.mockRestore();
  });
});
