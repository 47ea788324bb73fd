import { describe, expect, it } from 'vitest';
import { ProgressLineFilter } from './progress-lines.ts';

/** Feeds the chunks, each at its time in ms, and returns the kept lines. Checks that each has its position in the log. */
function filter(chunks: [text: string, at: number][]): { text: string[]; whole: string } {
  let now = 0;
  let offset = 0;
  const lines = new ProgressLineFilter(() => now);
  const out: { bytes: Buffer; source: { offset: number; length: number } }[] = [];
  const all = Buffer.from(chunks.map(([text]) => text).join(''));
  for (const [text, at] of chunks) {
    now = at;
    const bytes = Buffer.from(text);
    out.push(...lines.add({ bytes, source: { file: 'f', offset, length: bytes.length } }));
    offset += bytes.length;
  }
  out.push(...lines.flush());
  for (const { bytes, source } of out)
    expect(bytes.equals(all.subarray(source.offset, source.offset + source.length))).toBe(true);
  return { text: out.map(({ bytes }) => String(bytes)), whole: out.map(({ bytes }) => String(bytes)).join('') };
}

describe('ProgressLineFilter', () => {
  it('keeps one redrawn line a second, and the last one', () => {
    expect(
      filter([
        ['1%\r2%\r3%\r', 0],
        ['4%\r', 500],
        ['5%\r', 1500],
        ['6%\r7%\r', 1600],
      ]).text,
    ).toEqual(['1%\r', '5%\r', '7%\r']);
  });

  it('keeps every line that ends, and the redrawn line before it', () => {
    expect(
      filter([
        ['a\nb\n1%\r2%\r3%\rc\nd', 0],
        ['e\n', 1],
      ]).text,
    ).toEqual(['a\nb\n', '1%\r', '3%\r', 'c\n', 'de\n']);
  });

  it('does not change plain output', () => {
    expect(
      filter([
        ['one\ntw', 0],
        ['o\r\nthree', 1],
      ]).whole,
    ).toBe('one\ntwo\r\nthree');
  });

  it('joins a line that is cut into chunks', () => {
    expect(
      filter([
        ['10', 0],
        ['0%', 1],
        ['\r', 2],
        ['end', 3],
      ]).text,
    ).toEqual(['100%\r', 'end']);
  });
});
