import { createHmac, createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Issuer } from '../../../agent/admission/oidc.ts';
import { Refused } from '../../../protocol/refusal.ts';
import type { Random } from '../../faults/random.ts';
import { mutateText, mutateValue } from '../mutate.ts';
import { admitted, crashed, FINE, LET_IN, type Target } from '../target.ts';

const ISSUER = 'https://token.actions.githubusercontent.com';
const AUDIENCE = 'chatops:v1:agent:whitebox:cmd:sha-256:00';
const own = generateKeyPairSync('rsa', { modulusLength: 2048 });
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });
const dir = mkdtempSync(join(tmpdir(), 'chatops-fuzz-'));
const file = join(dir, 'keys.json');
writeFileSync(
  file,
  JSON.stringify({ keys: [{ ...own.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'RS256', use: 'sig' }] }),
);
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

/** Replaced regularly, because it remembers used tokens. */
let issuer = new Issuer({ issuer: ISSUER, jwks_file: file }, join(dir, 'cache.json'));
let cases = 0;

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
function signed(header: unknown, claims: unknown, key: KeyObject): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${createSign('RSA-SHA256').update(input).sign(key).toString('base64url')}`;
}
function claimsOf(random: Random): Record<string, unknown> {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: ISSUER,
    aud: AUDIENCE,
    jti: `${random.next()}`,
    iat: now,
    nbf: now,
    exp: now + 300,
    repository_id: '7001',
  };
}

/** The reference: an independent check of the claims that were signed. */
function areClaimsValid(claims: Record<string, unknown>): boolean {
  const now = Date.now() / 1000;
  const { iss, aud, exp, iat, nbf, jti } = claims;
  return (
    iss === ISSUER &&
    aud === AUDIENCE &&
    typeof exp === 'number' &&
    exp > now - 62 &&
    typeof iat === 'number' &&
    iat < now + 62 &&
    now - iat < 362 &&
    (nbf === undefined || (typeof nbf === 'number' && nbf < now + 62)) &&
    jti !== undefined
  );
}

/** GitHub's tokens: signed by the issuer's key with RS256, unchanged, only for this audience, within their lifetime. */
export const tokens: Target = {
  name: 'tokens',
  async run(random) {
    if (++cases % 500 === 0) issuer = new Issuer({ issuer: ISSUER, jwks_file: file }, join(dir, 'cache.json'));
    const header = { alg: 'RS256', kid: 'one', typ: 'JWT' };
    let claims = claimsOf(random);
    let text: string;
    let isGenuine = false;
    switch (random.below(7)) {
      case 0:
        claims = mutateValue(claims as never, random) as Record<string, unknown>;
        text = signed(header, claims, own.privateKey);
        isGenuine = true;
        break;
      case 1:
        text = mutateText(signed(header, claims, own.privateKey), random, 2);
        // A base64 decoder ignores some changes.
        isGenuine =
          text.split('.').slice(0, 2).join('.') ===
          signed(header, claims, own.privateKey).split('.').slice(0, 2).join('.');
        break;
      case 2:
        text = signed(mutateValue(header as never, random), claims, random.pick([own.privateKey, stranger.privateKey]));
        // Only the signature with the one algorithm counts, not the other fields of the header.
        isGenuine = isSignedWithRs256(text);
        break;
      case 3:
        text = signed({ ...header, jwk: stranger.publicKey.export({ format: 'jwk' }) }, claims, stranger.privateKey);
        break;
      case 4:
        text = `${encode({ ...header, alg: random.pick(['none', 'None', 'nOnE', '']) })}.${encode(claims)}.`;
        break;
      case 5: {
        const input = `${encode({ ...header, alg: 'HS256' })}.${encode(claims)}`;
        const pem = own.publicKey.export({ format: 'pem', type: 'spki' });
        text = `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`;
        break;
      }
      default:
        text = signed(header, claims, own.privateKey);
        isGenuine = true;
    }
    try {
      await issuer.verify(text, AUDIENCE);
      if (!isGenuine) return admitted('a token that the issuer did not create', text);
      return areClaimsValid(claims ?? {}) ? LET_IN : admitted('a token whose claims are wrong', claims);
    } catch (error) {
      return error instanceof Refused ? FINE : crashed(error, text);
    }
  },
};

function isSignedWithRs256(text: string): boolean {
  try {
    const { alg } = JSON.parse(Buffer.from(text.split('.')[0] ?? '', 'base64url').toString()) as { alg?: unknown };
    return alg === 'RS256' && verifies(text);
  } catch {
    return false;
  }
}

function verifies(text: string): boolean {
  const [header, claims, signature = ''] = text.split('.');
  const expected = createSign('RSA-SHA256').update(`${header}.${claims}`).sign(own.privateKey).toString('base64url');
  return expected === signature;
}
