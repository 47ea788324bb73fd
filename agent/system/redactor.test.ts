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

/** What is told of bytes that come in these pieces. */
function streamed(made: Redactor, pieces: Buffer[]): Buffer {
  let rest = Buffer.alloc(0);
  const told: Buffer[] = [];
  for (const [index, piece] of [...pieces, Buffer.alloc(0)].entries()) {
    const bytes = Buffer.concat([rest, piece]);
    const { length } = made.cover(bytes, index === pieces.length);
    told.push(bytes.subarray(0, length));
    rest = bytes.subarray(length);
  }
  return Buffer.concat(told);
}

describe('a redactor', () => {
  it.each([
    ['as it is', SECRET],
    ['in JSON', JSON.stringify(SECRET)],
    ['in a URL', encodeURIComponent(SECRET)],
    ['in a form', new URLSearchParams({ p: SECRET }).toString()],
  ])('finds a secret %s', (_, written) => {
    const told = redactor(SECRET).text(`before ${written} after`);
    expect(told).toMatch(/^before .*\*{16,}.* after$/);
    expect(told).not.toContain('hunter2');
    expect(Buffer.byteLength(told)).toBe(Buffer.byteLength(`before ${written} after`));
  });

  it.each(['', 'u', 'us', 'user', 'user:'])('finds it in base64, after %j', before => {
    for (const encoding of ['base64', 'base64url'] as const) {
      const written = Buffer.from(`${before}${SECRET}:rest`).toString(encoding);
      const left = Buffer.from(redactor(SECRET).text(written).replaceAll('*', ''), encoding).toString('latin1');
      expect(left).not.toMatch(/unter|nter2|ter2-/);
    }
  });

  it('lets short values and everything else be', () => {
    const made = redactor('short', 'a');
    expect(made.isIdle).toBe(true);
    expect(made.text('a short text')).toBe('a short text');
    expect(redactor(SECRET).text('hunter1 hunter')).toBe('hunter1 hunter');
  });

  it('finds the lines of a key by themselves', () => {
    const key = '-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----';
    expect(redactor(key).text('web  | MIIEvQIBADANBgkqhkiG9w0BAQ')).toBe(`web  | ${'*'.repeat(26)}`);
  });

  it('shows one thing, however the bytes come', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 6, maxLength: 9 });
    const text = fc.array(fc.oneof(fc.constantFrom('a', 'b', 'c', 'ab', ' '), letters), { maxLength: 30 });
    fc.assert(
      fc.property(
        fc.array(letters, { minLength: 1, maxLength: 3 }),
        text,
        fc.array(fc.nat(60)),
        (secrets, parts, cuts) => {
          // The secret itself is sure to be there.
          const bytes = Buffer.from([...parts, secrets[0]].join(''));
          const places = [0, ...[...cuts].sort((a, b) => a - b).filter(at => at < bytes.length), bytes.length];
          const pieces = places.slice(1).map((to, index) => Buffer.from(bytes.subarray(places[index], to)));
          const made = redactor(...secrets);
          const told = streamed(made, pieces).toString();
          for (const secret of secrets) expect(told).not.toContain(secret);
          expect(told).toHaveLength(bytes.length);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('puts nothing but stars in the place of letters', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 6, unit: 'binary' }), fc.string({ unit: 'binary' }), (secret, text) => {
        const bytes = Buffer.from(text);
        const told = Buffer.from(bytes);
        redactor(secret).cover(told, true);
        return bytes.every((byte, at) => told[at] === byte || told[at] === 0x2a);
      }),
    );
  });
});

describe('a step’s output', () => {
  it('is redacted as it comes, and in its file', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'chatops-redact-'));
    try {
      const file = join(dir, 'step.log');
      writeFileSync(file, 'password is hunt');
      let done = () => {};
      const ended = new Promise<void>(resolve => {
        done = resolve;
      });
      const pieces: string[] = [];
      const reading = (async () => {
        for await (const { bytes } of tailLog(file, ended, 0, redactor('hunter2'))) pieces.push(bytes.toString());
      })();
      await sleep(100);
      expect(pieces.join('')).toBe('password is ');
      writeFileSync(file, 'er2\nand hunt', { flag: 'a' });
      await sleep(100);
      done();
      await reading;
      expect(pieces.join('')).toBe('password is *******\nand hunt');
      expect(readFileSync(file, 'utf8')).toBe(pieces.join(''));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
