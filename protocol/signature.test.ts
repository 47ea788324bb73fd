import { describe, expect, it } from 'vitest';
import { generateKey, readSecretKey } from './keys.ts';
import { PAYLOAD_TYPES, type PayloadType, preAuthEncoding, signPayload, verifySignature } from './signature.ts';

const ours = readSecretKey(generateKey().secret);
const theirs = readSecretKey(generateKey().secret);
const body = Buffer.from('{"type":"run"}');

describe('a signature', () => {
  it('covers the encoding of the example in the DSSE specification', () => {
    expect(preAuthEncoding('http://example.com/HelloWorld', Buffer.from('hello world')).toString()).toBe(
      'DSSEv1 29 http://example.com/HelloWorld 11 hello world',
    );
  });

  it('matches a vector that was recorded with another implementation of DSSE and Ed25519', () => {
    const secret = readSecretKey(`ed25519-secret:${Buffer.alloc(32, 7).toString('base64')}`);
    const payload = 'eyJ2IjoxLCJpZCI6IjAxSkQwMDAwMDAwMDAwMDAwMDAwMDBURVNUIiwiYXVkIjoiYWdlbnQ6aG9tZWxhYi0xIn0=';
    const type = 'application/vnd.shiplabel.command.v1+json' as PayloadType;
    expect(signPayload(type, Buffer.from(payload, 'base64'), secret)).toEqual({
      payloadType: type,
      payload,
      signatures: [
        {
          keyid: secret.public.id,
          sig: 'KKRVNvGHgHVhVYGFuEIaPQHCgLW0kN8X0MDbMyaJg/XMMHE4/tqc/OrOQiEoo6GNn1rVj50QG64FYF103B7GBA==',
        },
      ],
    });
  });

  it('returns the exact bytes and the signing key among several', () => {
    const signed = signPayload(PAYLOAD_TYPES.command, body, ours);
    const proof = verifySignature(signed, PAYLOAD_TYPES.command, [theirs.public, ours.public]);
    expect(proof?.body.equals(body)).toBe(true);
    expect(proof?.key.id).toBe(ours.public.id);
  });

  it('is invalid for another key, type or payload, and for each flipped bit', () => {
    const signed = signPayload(PAYLOAD_TYPES.command, body, ours);
    const keys = [ours.public];
    expect(verifySignature(signed, PAYLOAD_TYPES.command, [theirs.public])).toBeUndefined();
    expect(verifySignature(signed, PAYLOAD_TYPES.receipt, keys)).toBeUndefined();
    expect(
      verifySignature({ ...signed, payloadType: PAYLOAD_TYPES.receipt }, PAYLOAD_TYPES.receipt, keys),
    ).toBeUndefined();
    const sig = Buffer.from(signed.signatures[0]?.sig ?? '', 'base64');
    const payload = Buffer.from(signed.payload, 'base64');
    for (const { bytes, rebuild } of [
      { bytes: sig, rebuild: (b: Buffer) => ({ ...signed, signatures: [{ sig: b.toString('base64') }] }) },
      { bytes: payload, rebuild: (b: Buffer) => ({ ...signed, payload: b.toString('base64') }) },
    ]) {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(verifySignature(rebuild(flipped), PAYLOAD_TYPES.command, keys)).toBeUndefined();
      }
    }
  });

  it('is invalid if it is empty, too short or malformed', () => {
    const signed = signPayload(PAYLOAD_TYPES.command, body, ours);
    for (const sig of ['', 'AAAA', '!!!!', Buffer.alloc(64).toString('base64')]) {
      expect(
        verifySignature({ ...signed, signatures: [{ sig }] }, PAYLOAD_TYPES.command, [ours.public]),
      ).toBeUndefined();
    }
  });
});
