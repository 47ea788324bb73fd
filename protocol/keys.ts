import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';

/** DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410); the 32 public bytes follow. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
/** DER prefix of an Ed25519 PKCS#8 private key (RFC 8410); the 32-byte seed follows. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

export interface PublicKey {
  /** First 16 hex characters of the SHA-256 of the 32 public bytes. */
  id: string;
  /** `ed25519:<base64 of the 32 bytes>`. */
  text: string;
  key: KeyObject;
}

export interface SecretKey {
  key: KeyObject;
  public: PublicKey;
}

/** A text that is not a key. Its message never repeats the text, which may be a secret. */
export class KeyError extends Error {
  override name = 'KeyError';
  readonly code = 'key-unreadable';
}

/** Reads `ed25519:<base64>` or an SPKI PEM. Throws {@link KeyError}. */
export function readPublicKey(text: string): PublicKey {
  const trimmed = text.trim();
  if (trimmed.startsWith('ed25519-secret:') || trimmed.includes('PRIVATE KEY')) {
    throw new KeyError('Expected a public key, got a secret key. Use only the line that begins with "ed25519:".');
  }
  const der = trimmed.startsWith('-----BEGIN')
    ? undefined
    : Buffer.concat([SPKI_PREFIX, bytes32(trimmed, 'ed25519:', 'public key')]);
  return describeKey(
    readKey(() => (der ? createPublicKey({ key: der, format: 'der', type: 'spki' }) : createPublicKey(trimmed))),
  );
}

/** Reads `ed25519-secret:<base64>` or a PKCS#8 PEM (also with newlines written as `\n`, as some secret stores do). Throws {@link KeyError}. */
export function readSecretKey(text: string): SecretKey {
  const trimmed = text.trim().replaceAll('\\n', '\n');
  const der = trimmed.startsWith('-----BEGIN')
    ? undefined
    : Buffer.concat([PKCS8_PREFIX, bytes32(trimmed, 'ed25519-secret:', 'secret key')]);
  const key = readKey(() =>
    der ? createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }) : createPrivateKey(trimmed),
  );
  return { key, public: describeKey(createPublicKey(key)) };
}

/** Generates a key pair. `secret` is its one-line text form, which belongs in a file of mode 0600 or in a secret store. */
export function generateKey(): { secret: string; public: string; id: string } {
  const { privateKey } = generateKeyPairSync('ed25519');
  const der = privateKey.export({ format: 'der', type: 'pkcs8' });
  const publicKey = describeKey(createPublicKey(privateKey));
  return {
    secret: `ed25519-secret:${der.subarray(PKCS8_PREFIX.length).toString('base64')}`,
    public: publicKey.text,
    id: publicKey.id,
  };
}

/** Compares the 32 bytes of two public keys in constant time. */
export function sameKey(a: PublicKey, b: PublicKey): boolean {
  return timingSafeEqual(rawBytes(a.key), rawBytes(b.key));
}

function describeKey(key: KeyObject): PublicKey {
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new KeyError(
      `Expected an Ed25519 key, got ${key.asymmetricKeyType ?? 'another kind'}. Create one with "chatops keygen".`,
    );
  }
  const raw = rawBytes(key);
  return {
    id: createHash('sha256').update(raw).digest('hex').slice(0, 16),
    text: `ed25519:${raw.toString('base64')}`,
    key,
  };
}

function rawBytes(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length);
}

function bytes32(text: string, prefix: string, what: string): Buffer {
  const bytes = Buffer.from(text.slice(prefix.length), 'base64');
  if (!text.startsWith(prefix) || bytes.length !== 32 || bytes.toString('base64') !== text.slice(prefix.length)) {
    throw new KeyError(
      `Expected a ${what} as "${prefix}<base64 of 32 bytes>" or as PEM. Create one with "chatops keygen".`,
    );
  }
  return bytes;
}

function readKey(read: () => KeyObject): KeyObject {
  try {
    return read();
  } catch {
    throw new KeyError('The PEM is not a readable Ed25519 key. Create one with "chatops keygen".');
  }
}
