import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toPlainText } from '../../protocol/plain-text.ts';
import { blankHidden, toReadable } from './hidden-text.ts';

function readable(text: string): string {
  const bytes = Buffer.from(text);
  blankHidden(bytes, true);
  return toReadable(bytes).toString();
}

describe('hidden text', () => {
  it.each([
    ['a\u202eb\u2066c\u200bd\ufeffe', 'abcde'],
    ['a\u001b[8mb\u001b[0;8mc\u001b[30;40md', 'abcd'],
    ['\u001b[1;31mred\u001b[0m\u001b[38;5;8mgray\u001b[m', '\u001b[1;31mred\u001b[0m\u001b[38;5;8mgray\u001b[m'],
    ['a\u001b]8;;http://x\u0007link\u001b]8;;\u001b\\b', 'alinkb'],
    ['a\u009b8mb\u0085c\u2028d\u0000e\u0008f', 'abcdef'],
    ['a\u001b]never ends\nnext', 'a\nnext'],
    ['tab\tand\r\nline', 'tab\tand\r\nline'],
  ])('is removed from a text and from bytes: %j', (text, expected) => {
    expect(toPlainText(text)).toBe(expected);
    expect(readable(text)).toBe(expected);
  });

  it('is the same in a text and in bytes, for every character', () => {
    for (let code = 0; code <= 0x10ffff; code++) {
      if (code >= 0xd800 && code <= 0xdfff) continue;
      const text = `a${String.fromCodePoint(code)}b`;
      if (readable(text) !== toPlainText(text)) expect.fail(`U+${code.toString(16)}`);
    }
  });

  it('is the same in a text and in bytes, whatever the sequences are made of, and however the bytes are cut', () => {
    const part = fc.constantFrom(
      ...[
        '\u001b',
        '[',
        ']',
        '31',
        '8',
        ';',
        'm',
        'P',
        '\\',
        '\u0007',
        '\u009b',
        '\u009d',
        '\u009c',
        '\n',
        'é',
        '\u200d',
      ],
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 14 }), fc.nat(20), (parts, cut) => {
        const text = parts.join('');
        expect(readable(text)).toBe(toPlainText(text));
        const bytes = Buffer.from(text);
        const first = Buffer.from(bytes.subarray(0, cut));
        const { length } = blankHidden(first, false);
        const rest = Buffer.from(bytes.subarray(length));
        blankHidden(rest, true);
        expect(toReadable(Buffer.concat([first.subarray(0, length), rest])).toString()).toBe(toPlainText(text));
      }),
      { numRuns: 5000 },
    );
  });
});
