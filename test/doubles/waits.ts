import { vi } from 'vitest';

/** Records each pause of a second or more, in milliseconds, and ends it immediately. Restore the mocks after the test. */
export function recordWaits(waits: number[]): void {
  const original = globalThis.setTimeout;
  const shortened = (work: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
    // Timeouts of Node's HTTP client have an argument: they are not pauses.
    const isPause = ms >= 1000 && args.length === 0;
    if (isPause) waits.push(ms);
    return original(work, isPause ? 0 : ms, ...args);
  };
  vi.spyOn(globalThis, 'setTimeout').mockImplementation(shortened as typeof setTimeout);
}
