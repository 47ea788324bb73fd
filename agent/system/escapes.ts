/** An escape that was read: its bytes, and the bytes that it stands for. `cut`: the end of the bytes cuts it. */
type ReadEscape = { width: number; decoded: readonly number[] } | 'cut' | undefined;

/** A way to escape characters in UTF-8. */
export interface EscapeKind {
  /** The byte that begins each escape. */
  mark: number;
  read: (bytes: Buffer, at: number) => ReadEscape;
}

/** The escapes of JSON, programming languages and shells; of URLs; of HTML. */
export const ESCAPE_KINDS: readonly EscapeKind[] = [
  { mark: 0x5c, read: readBackslash },
  { mark: 0x25, read: (bytes, at) => readHex(bytes, at + 1, 2, code => ({ width: 3, decoded: [code] })) },
  { mark: 0x26, read: readEntity },
];

const [BACKSLASH, LOWER_U, LOWER_X] = [0x5c, 0x75, 0x78];
const LETTERS = new Map([...'nrtbf'].map((letter, index) => [letter.charCodeAt(0), '\n\r\t\b\f'.charCodeAt(index)]));

/** Reads `\n`, `\/`, `\xff`, `\u00fc` or a pair of surrogates. */
function readBackslash(bytes: Buffer, at: number): ReadEscape {
  const kind = bytes[at + 1];
  if (kind === undefined) return 'cut';
  if (kind === LOWER_X) return readHex(bytes, at + 2, 2, code => ({ width: 4, decoded: [code] }));
  if (kind !== LOWER_U) return { width: 2, decoded: [LETTERS.get(kind) ?? kind] };
  return readHex(bytes, at + 2, 4, code => {
    const single: ReadEscape = { width: 6, decoded: utf8Of(code) };
    if (code < 0xd800 || code > 0xdbff) return single;
    for (const [index, byte] of [BACKSLASH, LOWER_U].entries()) {
      const next = bytes[at + 6 + index];
      if (next === undefined) return 'cut';
      if (next !== byte) return single;
    }
    return readHex(bytes, at + 8, 4, low =>
      low < 0xdc00 || low > 0xdfff
        ? single
        : { width: 12, decoded: utf8Of(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)) },
    );
  });
}

const LONGEST_ENTITY = 10;
const ENTITIES = new Map([
  ['amp', 0x26],
  ['lt', 0x3c],
  ['gt', 0x3e],
  ['quot', 0x22],
  ['apos', 0x27],
]);

/** Reads `&amp;`, `&#47;` or `&#x2f;`. */
function readEntity(bytes: Buffer, at: number): ReadEscape {
  const end = bytes.subarray(at, at + LONGEST_ENTITY).indexOf(';');
  const text = bytes.toString('latin1', at + 1, end < 0 ? at + LONGEST_ENTITY : at + end);
  if (end < 0)
    return at + LONGEST_ENTITY > bytes.length && /^(?:#(?:x[0-9a-f]*|\d*)|[a-z]*)$/i.test(text) ? 'cut' : undefined;
  const [, decimal, hex] = /^#(?:(\d+)|x([0-9a-f]+))$/i.exec(text) ?? [];
  const code =
    decimal === undefined && hex === undefined
      ? ENTITIES.get(text)
      : Number.parseInt(decimal ?? hex ?? '', hex ? 16 : 10);
  return code === undefined || code > 0x10ffff ? undefined : { width: end + 1, decoded: utf8Of(code) };
}

/** Reads `count` hexadecimal digits. */
function readHex(bytes: Buffer, at: number, count: number, use: (code: number) => ReadEscape): ReadEscape {
  let code = 0;
  for (let index = at; index < at + count; index++) {
    const byte = bytes[index];
    if (byte === undefined) return 'cut';
    const digit = digitOf(byte);
    if (digit < 0) return undefined;
    code = code * 16 + digit;
  }
  return use(code);
}

function digitOf(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

function utf8Of(code: number): readonly number[] {
  return code < 0x80 ? [code] : [...Buffer.from(String.fromCodePoint(code))];
}
