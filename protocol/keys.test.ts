import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { generateKey, KeyError, readPublicKey, readSecretKey, sameKey } from './keys.ts';

// RFC 8032 §7.1, test 1.
const SEED = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex');
const PUBLIC = Buffer.from('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', 'hex');

describe('the text form of keys', () => {
  it('derives the public key that RFC 8032 lists for its first test seed', () => {
    const secret = readSecretKey(`ed25519-secret:${SEED.toString('base64')}`);
    expect(secret.public.text).toBe(`ed25519:${PUBLIC.toString('base64')}`);
    expect(secret.public.id).toBe('21fe31dfa154a261');
  });

  it('reads generated keys and their PEM form, also with newlines written as \\n', () => {
    const pair = generateKey();
    const secret = readSecretKey(pair.secret);
    expect(secret.public.text).toBe(pair.public);
    const pem = secret.key.export({ format: 'pem', type: 'pkcs8' }) as string;
    expect(readSecretKey(pem).public.id).toBe(pair.id);
    expect(readSecretKey(pem.replaceAll('\n', '\\n')).public.id).toBe(pair.id);
    const spki = secret.public.key.export({ format: 'pem', type: 'spki' }) as string;
    expect(sameKey(readPublicKey(spki), readPublicKey(pair.public))).toBe(true);
  });

  it.each([
    ['', 'empty'],
    ['ed25519:', 'no bytes'],
    [`ed25519:${Buffer.alloc(31).toString('base64')}`, '31 bytes'],
    [`ed25519:${Buffer.alloc(33).toString('base64')}`, '33 bytes'],
    [`ed25519:${PUBLIC.toString('base64')}x`, 'trailing text'],
    [`ed25519:${PUBLIC.toString('hex')}`, 'hex'],
    ['-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----', 'broken PEM'],
  ])('refuses %j as a public key (%s)', text => {
    expect(() => readPublicKey(text)).toThrow(KeyError);
  });

  it('refuses a secret key in place of a public key, without repeating it', () => {
    const text = `ed25519-secret:${SEED.toString('base64')}`;
    expect(() => readPublicKey(text)).toThrow(/Expected a public key/);
    expect(() => readPublicKey(text)).not.toThrow(new RegExp(SEED.toString('base64').slice(0, 12)));
  });

  it('refuses keys of other algorithms', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    expect(() => readSecretKey(rsa.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string)).toThrow(/Ed25519/);
    expect(() => readPublicKey(rsa.publicKey.export({ format: 'pem', type: 'spki' }) as string)).toThrow(/Ed25519/);
  });
});
