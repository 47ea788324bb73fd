import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PAYLOAD_TYPES } from './signature.ts';
import { MAX_CLIENT_FRAME_BYTES, MAX_COMMAND_BYTES } from './wire.ts';

/**
 * The statement that a client signs: these bytes, for this agent, on this connection. It is small, so that the agent
 * authenticates the sender before it reads the command.
 */
export const Offer = z.strictObject({
  agent: z.string().max(128),
  /** The challenge of the agent's hello on this connection. */
  challenge: z.string().max(128),
  payloadType: z.literal(PAYLOAD_TYPES.command),
  /** Size and SHA-256 (hex) of the command's exact bytes. */
  size: z.int().min(1).max(MAX_COMMAND_BYTES),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type Offer = z.infer<typeof Offer>;

/** Returns the bytes of the offer for a command, which the client signs. */
export function createOffer(command: Uint8Array, { agent, challenge }: Pick<Offer, 'agent' | 'challenge'>): Buffer {
  const offer: Offer = {
    agent,
    challenge,
    payloadType: PAYLOAD_TYPES.command,
    size: command.length,
    sha256: createHash('sha256').update(command).digest('hex'),
  };
  return Buffer.from(JSON.stringify(offer));
}

/** Yields the bytes of a command in pieces that fit into a frame. */
export function* splitCommand(command: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < command.length; start += MAX_CLIENT_FRAME_BYTES)
    yield command.subarray(start, start + MAX_CLIENT_FRAME_BYTES);
}
