import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tailLog } from './log-tail.ts';
import { Redactor } from './redactor.ts';

const SECRET = 'hunter2-&"ü=+/ok';

function redactor(...values: string[]): Redactor {
  const made = new Redactor();
  for (const value of values) made.add(value);
  return made;
}

/** Returns the output for bytes that come in these chunks. */
function streamed(made: Redactor, chunks: Buffer[]): Buffer {
  let rest = Buffer.alloc(0);
  const output: Buffer[] = [];
  for (const [index, chunk] of [...chunks, Buffer.alloc(0)].entries()) {
    const bytes = Buffer.concat([rest, chunk]);
    const { length } = made.cover(bytes, index === chunks.length, output.at(-1)?.at(-1));
    output.push(bytes.subarray(0, length));
    rest = bytes.subarray(length);
  }
  return Buffer.concat(output);
}

/** Writes each character as `\\uXXXX`, or only those that a test names. */
const unicode = (text: string, which = /./gs) =>
  text.replace(which, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
const php = (text: string) => unicode(JSON.stringify(text).replaceAll('/', '\\/'), /[\u0080-\uffff]/g);
const lower = (text: string) => text.replace(/%[0-9A-F]{2}/g, one => one.toLowerCase());
const html = (text: string) =>
  text.replace(/[&"'/<>ü]/g, one =>
    one === '&' ? '&amp;' : one === '"' ? '&quot;' : `&#x${one.charCodeAt(0).toString(16)};`,
  );

describe('Redactor', () => {
  it.each([
    ['as it is', SECRET],
    ['in JSON', JSON.stringify(SECRET)],
    ['in the JSON of PHP', php(SECRET)],
    ['in JSON within JSON', JSON.stringify(JSON.stringify(SECRET))],
    ['in JSON with \\u for each character', unicode(SECRET)],
    ['in JSON with upper-case \\u', unicode(SECRET).replace(/[0-9a-f]{4}/g, digits => digits.toUpperCase())],
    ['in a URL', encodeURIComponent(SECRET)],
    ['in a URL with lower-case escapes', lower(encodeURIComponent(SECRET))],
    ['in a URL within a URL', encodeURIComponent(encodeURIComponent(SECRET))],
    ['in a form', new URLSearchParams({ p: SECRET }).toString()],
    ['in HTML', html(SECRET)],
    ['in hex', Buffer.from(SECRET).toString('hex')],
    ['with a color in it', `hunt\u001b[31m${SECRET.slice(4)}`],
  ])('redacts a secret %s and keeps the length', (_, written) => {
    const text = redactor(SECRET).text(`before ${written} after`);
    expect(text).toMatch(/^before .*\*{16,}.* after$/);
    expect(text).not.toMatch(/nter2|68756e74/);
    expect(text).not.toContain('hunter2');
    expect(Buffer.byteLength(text)).toBe(Buffer.byteLength(`before ${written} after`));
  });

  it.each(['', 'u', 'us', 'user', 'user:'])('redacts a secret in base64 after %j', before => {
    for (const encoding of ['base64', 'base64url'] as const) {
      const written = Buffer.from(`${before}${SECRET}:rest`).toString(encoding);
      const left = Buffer.from(redactor(SECRET).text(written).replaceAll('*', ''), encoding).toString('latin1');
      expect(left).not.toMatch(/unter|nter2|ter2-/);
    }
  });

  it.each([
    'hun\u200bter2-&"ü=+/ok',
    'hun\u202eter2-&"ü=+/ok',
    'hun\u2066ter2-&"ü=+/ok',
    'hun\u001b[8mter2-&"ü=+/ok',
    'hun\u009b1mter2-&"ü=+/ok',
    'hun\u0000ter2-&"ü=+/ok',
    'hun\u001b]0;title\u0007ter2-&"ü=+/ok',
  ])('redacts a secret with hidden text in it, and removes that: %j', written => {
    expect(redactor(SECRET).text(`a ${written} z`)).toBe(`a ${'*'.repeat(Buffer.byteLength(SECRET))} z`);
  });

  it('redacts a value of 4 or 5 characters only as a whole word, and no shorter one', () => {
    const made = redactor('wor', 'word', 'a.b!c');
    expect(made.text('password=word words sword "word" wor a.b!c a.b!cd')).toBe(
      'password=**** words sword "****" wor ***** a.b!cd',
    );
  });

  it('redacts a public name only next to its variable and in a URL', () => {
    const made = new Redactor();
    made.add({ value: 'nextcloud', names: ['DB_PASSWORD'], isName: true });
    expect(
      made.text(
        'nextcloud-1 DB_PASSWORD=nextcloud {"DB_PASSWORD": "nextcloud"} mysql://nextcloud:nextcloud@db/nextcloud',
      ),
    ).toBe('nextcloud-1 DB_PASSWORD=********* {"DB_PASSWORD": "*********"} mysql://nextcloud:*********@db/nextcloud');
  });

  it('redacts the agent’s own words in texts of others only', () => {
    const made = new Redactor(value => value === 'running');
    for (const value of ['running', 'hunter2']) made.add(value);
    expect(made.text('running with hunter2')).toBe('******* with *******');
    expect(made.sentence('running with hunter2')).toBe('running with *******');
  });

  it('redacts every part of a very long secret', () => {
    const long = 'x0y1'.repeat(5_000);
    expect(redactor(long).text(`a ${long} z`)).toBe(`a ${'*'.repeat(20_000)} z`);
  });

  it('redacts a single line of a key', () => {
    const key = '-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----';
    expect(redactor(key).text('web  | MIIEvQIBADANBgkqhkiG9w0BAQ')).toBe(`web  | ${'*'.repeat(26)}`);
  });

  it('never shows a secret, however the bytes are cut into chunks', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '/'), minLength: 6, maxLength: 9 });
    const part = fc.oneof(
      fc.constantFrom('a', 'b', '/', 'ab', ' ', '\\', '%', '&', '\\u00'),
      letters,
      letters.map(php),
    );
    const text = fc.array(part, { maxLength: 30 });
    fc.assert(
      fc.property(
        fc.array(letters, { minLength: 1, maxLength: 3 }),
        text,
        fc.array(fc.nat(60)),
        (secrets, parts, cuts) => {
          // The text contains at least one of the secrets.
          const bytes = Buffer.from([...parts, secrets[0], unicode(secrets[0] ?? '')].join(' '));
          const offsets = [0, ...[...cuts].sort((a, b) => a - b).filter(cut => cut < bytes.length), bytes.length];
          const chunks = offsets.slice(1).map((to, index) => Buffer.from(bytes.subarray(offsets[index], to)));
          const made = redactor(...secrets);
          const output = streamed(made, chunks).toString();
          for (const secret of secrets) {
            for (const form of [secret, php(secret).slice(1, -1), unicode(secret)]) expect(output).not.toContain(form);
          }
          expect(output).toHaveLength(bytes.length);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('replaces bytes only with asterisks', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 6, unit: 'binary' }), fc.string({ unit: 'binary' }), (secret, text) => {
        const bytes = Buffer.from(text);
        const covered = Buffer.from(bytes);
        redactor(secret).cover(covered, true);
        return bytes.every((byte, index) => covered[index] === byte || covered[index] === 0x2a);
      }),
    );
  });

  it('finds any secret in any of its encodings, without hidden text', () => {
    const encodings: ((text: string) => string)[] = [
      text => text,
      text => JSON.stringify(text),
      php,
      unicode,
      encodeURIComponent,
      text => lower(encodeURIComponent(text)),
      text => new URLSearchParams({ p: text }).toString(),
      html,
      text => [...text].join('\u200b'),
      text => [...text].join('\u001b[32m'),
    ];
    fc.assert(
      fc.property(
        fc.string({ minLength: 8, maxLength: 20, unit: 'grapheme-ascii' }),
        fc.constantFrom(...encodings),
        (secret, encode) => {
          const made = redactor(secret);
          const text = made.text(`<${encode(secret)}>`);
          expect(text.replaceAll('*', '')).toMatch(/^<"?(?:p=)?"?>$/);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('tailLog with a redactor', () => {
  it('redacts output as it arrives, also in the log file', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-redact-'));
    try {
      const file = join(dir, 'step.log');
      writeFileSync(file, 'password is hunt');
      let end = () => {};
      const ended = new Promise<void>(resolve => {
        end = resolve;
      });
      const chunks: string[] = [];
      const reading = (async () => {
        for await (const { bytes } of tailLog(file, ended, 0, redactor('hunter2'))) chunks.push(bytes.toString());
      })();
      await expect.poll(() => chunks.join('')).toBe('password is ');
      writeFileSync(file, 'er2\nand hunt', { flag: 'a' });
      await expect.poll(() => chunks.join('')).toBe('password is *******\nand ');
      end();
      await reading;
      expect(chunks.join('')).toBe('password is *******\nand hunt');
      expect(readFileSync(file, 'utf8')).toBe(chunks.join(''));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
