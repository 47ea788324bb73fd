import { describe, expect, it } from 'vitest';
import { isWithin, parseWindow } from './time-windows.ts';

describe('a time window', () => {
  it.each([
    ['Mon-Fri 07:00-22:00 Europe/Berlin', '2026-11-23T06:00:00Z', true],
    ['Mon-Fri 07:00-22:00 Europe/Berlin', '2026-11-23T05:59:00Z', false],
    ['Mon-Fri 07:00-22:00 Europe/Berlin', '2026-11-23T21:00:00Z', false],
    // Daylight saving time.
    ['Mon-Fri 07:00-22:00 Europe/Berlin', '2026-07-06T05:00:00Z', true],
    ['07:00-08:00', '2026-11-22T07:59:59Z', true],
    ['Fri 22:00-06:00', '2026-11-28T05:59:00Z', true],
    ['Fri 22:00-06:00', '2026-11-27T05:59:00Z', false],
    ['Sat-Mon 00:00-24:00', '2026-11-22T23:59:00Z', true],
    ['Sat-Mon 00:00-24:00', '2026-11-24T00:00:00Z', false],
  ])('of %s contains %s: %s', (text, at, expected) => {
    const window = parseWindow(text);
    expect(window && isWithin(window, new Date(at))).toBe(expected);
  });

  it.each([
    '',
    'always',
    '7:00-8:00',
    '07:00-07:00',
    'Mo 07:00-08:00',
    '07:00-25:00',
    '07:00-24:30',
    '07:00-08:00 Mars/Base',
  ])('is not parsed from %j', text => expect(parseWindow(text)).toBeUndefined());
});
