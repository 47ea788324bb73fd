import { vi } from 'vitest';

/** Records every pause of a second or more, in milliseconds, and ends it at once. Restore the mocks after the test. */
export function recordWaits(waits: number[]): void {
  const original = globalThis.setTimeout;
  const shortened = (work: (...given: unknown[]) => void, ms = 0, ...given: unknown[]) => {
    // The time limits of Node's HTTP client come with an argument: they are not pauses.
    const isPause = ms >= 1000 && given.length === 0;
    if (isPause) waits.push(ms);
    return original(work, isPause ? 0 : ms, ...given);
  };
  vi.spyOn(globalThis, 'setTimeout').mockImplementation(shortened as typeof setTimeout);
}
