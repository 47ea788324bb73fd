import { z } from 'zod';

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const PATTERN = /^(\d{1,6})(ms|s|m|h|d)$/;

/** A duration in an intent: a whole number and a unit, `30s`, `10m`, `1h`. */
export const Duration = z
  .string()
  .regex(PATTERN, 'Expected a duration such as "30s", "10m" or "1h"')
  .describe('A whole number and a unit: ms, s, m, h or d. For example 30s, 10m, 1h.');

/** Converts a duration to milliseconds. Throws a RangeError for any other text. */
export function parseDuration(text: string): number {
  const [, count, unit] = PATTERN.exec(text) ?? [];
  if (count === undefined || unit === undefined) {
    throw new RangeError(`Expected a duration such as "30s", "10m" or "1h", got "${text.slice(0, 40)}"`);
  }
  return Number(count) * (UNITS[unit] ?? 0);
}
