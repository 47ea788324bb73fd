import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { countWholeCharacters, toReadable } from './hidden-text.ts';
import { tailLog } from './log-tail.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-tail-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the tail of a log', () => {
  it('cuts only between characters', () => {
    const text = Buffer.from('aé€😀');
    for (let length = 0; length <= text.length; length++) {
      const whole = countWholeCharacters(text, length);
      expect(text.toString('utf8', 0, whole)).not.toContain('\ufffd');
      expect(length - whole).toBeLessThan(4);
    }
    expect(countWholeCharacters(Buffer.from([0xff, 0xff]), 2)).toBe(2);
    expect(countWholeCharacters(Buffer.from([0x80, 0x80, 0x80, 0x80]), 4)).toBe(4);
  });

  it('returns the last byte of the file even if it is half a character', async () => {
    const file = join(dir, 'log');
    writeFileSync(file, Buffer.from([0x61, 0xc3]));
    let text = '';
    for await (const piece of tailLog(file, Promise.resolve())) text += toReadable(piece.bytes).toString();
    expect(text).toBe('a\ufffd');
  });
});
