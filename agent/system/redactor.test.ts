import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
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
    const { length } = made.cover(bytes, index === chunks.length);
    output.push(bytes.subarray(0, length));
    rest = bytes.subarray(length);
  }
  return Buffer.concat(output);
}

describe('Redactor', () => {
  it.each([
    ['as it is', SECRET],
    ['in JSON', JSON.stringify(SECRET)],
    ['in a URL', encodeURIComponent(SECRET)],
    ['in a form', new URLSearchParams({ p: SECRET }).toString()],
  ])('redacts a secret %s and keeps the length', (_, written) => {
    const text = redactor(SECRET).text(`before ${written} after`);
    expect(text).toMatch(/^before .*\*{16,}.* after$/);
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

  it('does not change short values and texts without a secret', () => {
    const made = redactor('short', 'a');
    expect(made.isIdle).toBe(true);
    expect(made.text('a short text')).toBe('a short text');
    expect(redactor(SECRET).text('hunter1 hunter')).toBe('hunter1 hunter');
  });

  it('redacts a single line of a key', () => {
    const key = '-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----';
    expect(redactor(key).text('web  | MIIEvQIBADANBgkqhkiG9w0BAQ')).toBe(`web  | ${'*'.repeat(26)}`);
  });

  it('never shows a secret, however the bytes are cut into chunks', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 6, maxLength: 9 });
    const text = fc.array(fc.oneof(fc.constantFrom('a', 'b', 'c', 'ab', ' '), letters), { maxLength: 30 });
    fc.assert(
      fc.property(
        fc.array(letters, { minLength: 1, maxLength: 3 }),
        text,
        fc.array(fc.nat(60)),
        (secrets, parts, cuts) => {
          // The text contains at least one of the secrets.
          const bytes = Buffer.from([...parts, secrets[0]].join(''));
          const offsets = [0, ...[...cuts].sort((a, b) => a - b).filter(cut => cut < bytes.length), bytes.length];
          const chunks = offsets.slice(1).map((to, index) => Buffer.from(bytes.subarray(offsets[index], to)));
          const made = redactor(...secrets);
          const output = streamed(made, chunks).toString();
          for (const secret of secrets) expect(output).not.toContain(secret);
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
      await sleep(100);
      expect(chunks.join('')).toBe('password is ');
      writeFileSync(file, 'er2\nand hunt', { flag: 'a' });
      await sleep(100);
      end();
      await reading;
      expect(chunks.join('')).toBe('password is *******\nand hunt');
      expect(readFileSync(file, 'utf8')).toBe(chunks.join(''));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
