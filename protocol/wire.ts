import { z } from 'zod';
import { AnyEvent } from './event.ts';
import { Refusal } from './refusal.ts';
import { Signed } from './signature.ts';

/**
 * Version of the protocol, announced in the agent's hello.
 *
 * History:
 * - 1: hello, signed (run, plan, follow, cancel), accepted, refusal, event, receipt. Added since: signed (runs) and
 *   signed (ask) with their answers, and `place`, `given`, `undo` and `rendered_at` in commands, which an older agent
 *   refuses.
 * - 2: offer in place of signed, continue, and the command's bytes in binary frames: an agent reads little before it
 *   knows the sender. The audience of tokens has the digest of the offer. `covers`, `allow_older` and `hosts_file` in commands, `url` in
 *   evidence, `doubt` and `unproven` in labels, and the question `deployed`.
 */
export const PROTOCOL = 2;
/** A connection is refused if client and agent do not share it: there is one for each version of the protocol. */
export const SUBPROTOCOL = 'chatops.v2';
export const WIRE_PATH = '/v1';
export const DEFAULT_PORT = 8000;
/** Largest frame of an agent, in bytes. A larger frame ends the connection with code 1009. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** Largest frame of a client, in bytes. All that an agent reads before it has authenticated the sender is one of them. */
export const MAX_CLIENT_FRAME_BYTES = 64 * 1024;
/** Largest command, in bytes. */
export const MAX_COMMAND_BYTES = 16 * 1024 * 1024;
/** Time limit for each frame of a client, and lifetime of the agent's challenge, in milliseconds. */
export const CLIENT_FRAME_MS = 10_000;
export const CHALLENGE_MS = 60_000;

/** The agent's first frame, inside a DSSE envelope. `challenge` is 32 random bytes in base64. */
export const Hello = z.looseObject({
  protocol: z.int(),
  agent: z.string(),
  version: z.string(),
  challenge: z.string(),
  publicKey: z.string(),
});
export type Hello = z.infer<typeof Hello>;

/**
 * The first frame of a client: an envelope whose payload is an `Offer`. `oidc` is a GitHub token whose audience contains
 * the digest of the envelope. The agent answers `continue`, and the client sends the bytes of the command in binary frames.
 */
export const OfferFrame = z.strictObject({
  type: z.literal('offer'),
  ...Signed.shape,
  payload: z.string().max(2_048),
  oidc: z.string().max(16_384).optional(),
});
export type OfferFrame = z.infer<typeof OfferFrame>;

/** The agent has authenticated the sender, and waits for the command. */
const ContinueFrame = z.looseObject({ type: z.literal('continue') });

const HelloFrame = z.looseObject({ type: z.literal('hello'), ...Signed.shape });
/** `joined`: the same command was sent before, and this connection follows its run. */
const AcceptedFrame = z.looseObject({
  type: z.literal('accepted'),
  run: z.string(),
  joined: z.boolean().optional(),
});
const RefusalFrame = z.looseObject({ type: z.literal('refusal'), ...Refusal.shape });
export const ReceiptFrame = z.looseObject({ type: z.literal('receipt'), ...Signed.shape });

/** The answer to a command of type `runs`. Times are ISO 8601. */
export const RunsFrame = z.looseObject({
  type: z.literal('runs'),
  runs: z.array(
    z.looseObject({
      id: z.string(),
      title: z.string(),
      state: z.string(),
      outcome: z.string().nullable(),
      createdAt: z.string(),
      endedAt: z.string().nullable(),
    }),
  ),
});
export type RunsFrame = z.infer<typeof RunsFrame>;

/** The answer to a command of type `ask`: a signed `AnswerPart`. */
export const AnswerFrame = z.looseObject({ type: z.literal('answer'), ...Signed.shape });

/** A frame that the agent sends. */
export const AgentFrame = z.discriminatedUnion('type', [
  HelloFrame,
  ContinueFrame,
  AcceptedFrame,
  RefusalFrame,
  AnyEvent,
  ReceiptFrame,
  RunsFrame,
  AnswerFrame,
]);
export type AgentFrame = z.infer<typeof AgentFrame>;
