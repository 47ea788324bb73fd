import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Refused } from '../../protocol/refusal.ts';
import { IssuerDouble } from '../../test/doubles/issuer.ts';
import { Issuer } from './oidc.ts';

let double: IssuerDouble;
let dir: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-oidc-'));
  double = await new IssuerDouble().start();
});
afterAll(async () => {
  await double.stop();
  rmSync(dir, { recursive: true });
});

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'accepted';
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
}

describe('the issuer', () => {
  it('accepts a token once', async () => {
    const issuer = new Issuer({ issuer: double.url }, join(dir, 'keys.json'));
    const token = await double.make('us');
    expect(await codeOf(issuer.verify(token, 'us'))).toBe('accepted');
    expect(await codeOf(issuer.verify(token, 'us'))).toBe('token-replayed');
    expect(await codeOf(issuer.verify(await double.make('us'), 'us'))).toBe('accepted');
  });

  it('accepts a token of a key that the issuer made later', async () => {
    const issuer = new Issuer({ issuer: double.url }, join(dir, 'other.json'));
    await double.rotate('two');
    expect(await codeOf(issuer.verify(await double.make('us'), 'us'))).toBe('accepted');
  });

  it('asks for the keys once, however many tokens with unknown keys arrive', async () => {
    const issuer = new Issuer({ issuer: double.url }, join(dir, 'unknown.json'));
    const before = double.fetched;
    double.header = { kid: 'unknown' };
    const tokens = await Promise.all(Array.from({ length: 20 }, () => double.make('us')));
    double.header = {};
    for (const token of tokens) expect(await codeOf(issuer.verify(token, 'us'))).toBe('token-invalid');
    expect(double.fetched - before).toBe(1);
  });

  it('asks an issuer that fails five times, then not for a while', async () => {
    const before = double.requested;
    const issuer = new Issuer({ issuer: double.url, jwks_url: `${double.url}/missing` }, join(dir, 'failing.json'));
    for (let n = 0; n < 20; n++)
      expect(await codeOf(issuer.verify(await double.make('us'), 'us'))).toBe('token-keys-unreachable');
    expect(double.requested - before).toBe(5);
  });

  it.each([
    ['an empty text', ''],
    ['a text', 'not.a.token'],
    ['three dots', '...'],
    ['a long text', 'x'.repeat(16_000)],
  ])('rejects %s as a token', async (_, token) => {
    const issuer = new Issuer({ issuer: double.url }, join(dir, 'more.json'));
    expect(await codeOf(issuer.verify(token, 'us'))).toBe('token-invalid');
  });
});
