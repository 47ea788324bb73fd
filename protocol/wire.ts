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
 */
export const PROTOCOL = 1;
export const SUBPROTOCOL = 'chatops.v1';
export const WIRE_PATH = '/v1';
export const DEFAULT_PORT = 8000;
/** Largest frame that both sides accept, in bytes. A larger frame ends the connection with code 1009. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** Time limit for the first frame, and lifetime of the agent's challenge, in milliseconds. */
export const FIRST_FRAME_MS = 10_000;
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

/** The frame that the action sends once per connection. `oidc` is a GitHub token whose audience contains the digest of the envelope. */
export const SignedFrame = z.strictObject({
  type: z.literal('signed'),
  ...Signed.shape,
  oidc: z.string().max(16_384).optional(),
});
export type SignedFrame = z.infer<typeof SignedFrame>;

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
  AcceptedFrame,
  RefusalFrame,
  AnyEvent,
  ReceiptFrame,
  RunsFrame,
  AnswerFrame,
]);
export type AgentFrame = z.infer<typeof AgentFrame>;
