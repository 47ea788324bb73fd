import { describe, expect, it } from 'vitest';
import { ProgressLineFilter } from './progress-lines.ts';

/** Gives the text in pieces, with the time of each, and returns what is told and where it stands. */
function told(pieces: [string, number][]): { text: string[]; whole: string } {
  let now = 0;
  let offset = 0;
  const redraws = new ProgressLineFilter(() => now);
  const out: { bytes: Buffer; source: { offset: number; length: number } }[] = [];
  const all = Buffer.from(pieces.map(([text]) => text).join(''));
  for (const [text, at] of pieces) {
    now = at;
    const bytes = Buffer.from(text);
    out.push(...redraws.take({ bytes, source: { file: 'f', offset, length: bytes.length } }));
    offset += bytes.length;
  }
  out.push(...redraws.rest());
  for (const { bytes, source } of out)
    expect(bytes.equals(all.subarray(source.offset, source.offset + source.length))).toBe(true);
  return { text: out.map(({ bytes }) => String(bytes)), whole: out.map(({ bytes }) => String(bytes)).join('') };
}

describe('redrawn lines', () => {
  it('are told once a second, and the last one', () => {
    expect(
      told([
        ['1%\r2%\r3%\r', 0],
        ['4%\r', 500],
        ['5%\r', 1500],
        ['6%\r7%\r', 1600],
      ]).text,
    ).toEqual(['1%\r', '5%\r', '7%\r']);
  });

  it('lose no line that ends, and what comes before such a line', () => {
    expect(
      told([
        ['a\nb\n1%\r2%\r3%\rc\nd', 0],
        ['e\n', 1],
      ]).text,
    ).toEqual(['a\nb\n', '1%\r', '3%\r', 'c\n', 'de\n']);
  });

  it('are nothing to plain output: all of it is told as it is', () => {
    expect(
      told([
        ['one\ntw', 0],
        ['o\r\nthree', 1],
      ]).whole,
    ).toBe('one\ntwo\r\nthree');
  });

  it('stay whole over the borders of pieces', () => {
    expect(
      told([
        ['10', 0],
        ['0%', 1],
        ['\r', 2],
        ['end', 3],
      ]).text,
    ).toEqual(['100%\r', 'end']);
  });
});
