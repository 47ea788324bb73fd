import { createHash, sign as signBytes, verify as verifyBytes } from 'node:crypto';
import { z } from 'zod';
import type { PublicKey, SecretKey } from './keys.ts';

/** Each meaning has its own payload type, so that a receipt can never be replayed as a command (DSSE authenticates the type). */
export const PAYLOAD_TYPES = {
  command: 'application/vnd.chatops.command.v1+json',
  offer: 'application/vnd.chatops.offer.v1+json',
  hello: 'application/vnd.chatops.hello.v1+json',
  answer: 'application/vnd.chatops.answer.v1+json',
  receipt: 'application/vnd.chatops.receipt.v1+json',
  selftest: 'application/vnd.chatops.selftest.v1+json',
} as const;
export type PayloadType = (typeof PAYLOAD_TYPES)[keyof typeof PAYLOAD_TYPES];

/** A DSSE envelope: https://github.com/secure-systems-lab/dsse. `payload` and `sig` are base64. */
export const Signed = z.object({
  payloadType: z.string().max(200),
  payload: z.string(),
  signatures: z.array(z.object({ keyid: z.string().max(200).optional(), sig: z.string().max(200) })).max(4),
});
export type Signed = z.infer<typeof Signed>;

/** DSSE's pre-authentication encoding: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in bytes. */
export function preAuthEncoding(payloadType: string, body: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${body.length} `;
  return Buffer.concat([Buffer.from(head), body]);
}

/** The audience of the GitHub token for an offer. The token is valid only for the offered command, and only for this agent. */
export function audienceOf(agent: string, offer: Uint8Array): string {
  const digest = createHash('sha256').update(preAuthEncoding(PAYLOAD_TYPES.offer, offer)).digest('hex');
  return `chatops:v2:agent:${agent}:offer:sha-256:${digest}`;
}

/** Creates an envelope without a signature: the token that is sent with it authenticates it. */
export function createEnvelope(payloadType: PayloadType, body: Uint8Array): Signed {
  return { payloadType, payload: Buffer.from(body).toString('base64'), signatures: [] };
}

/** Signs the exact bytes of `body` with each of the keys. */
export function signPayload(
  payloadType: PayloadType,
  body: Uint8Array,
  secret: SecretKey | readonly SecretKey[],
): Signed {
  const encoded = preAuthEncoding(payloadType, body);
  return {
    payloadType,
    payload: Buffer.from(body).toString('base64'),
    signatures: [secret].flat().map(({ key, public: { id } }) => ({
      keyid: id,
      sig: signBytes(null, encoded, key).toString('base64'),
    })),
  };
}

/**
 * Returns the payload's bytes and the key that signed them, or undefined if none of the keys did.
 * The envelope's `keyid` is only a hint, so every key is tried. Callers parse the returned bytes and nothing else.
 */
export function verifySignature<K extends PublicKey>(
  signed: Signed,
  payloadType: PayloadType,
  keys: readonly K[],
): { body: Buffer; key: K } | undefined {
  if (signed.payloadType !== payloadType) return undefined;
  const body = Buffer.from(signed.payload, 'base64');
  const encoded = preAuthEncoding(payloadType, body);
  for (const { sig } of signed.signatures) {
    const bytes = Buffer.from(sig, 'base64');
    if (bytes.length !== 64) continue;
    for (const key of keys) {
      if (verifyBytes(null, encoded, key.key, bytes)) return { body, key };
    }
  }
  return undefined;
}
