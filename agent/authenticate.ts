import { Command } from '../protocol/command.ts';
import { type PublicKey, readPublicKey } from '../protocol/keys.ts';
import { Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, type Signed, verify } from '../protocol/signature.ts';
import { CHALLENGE_MS } from '../protocol/wire.ts';
import type { Config, TrustEntry } from './config.ts';
import { refusals } from './refusals.ts';

/** A key of agent.yaml with the entry it stands in. */
export interface TrustedKey extends PublicKey {
  entry: TrustEntry;
}

/** A challenge as the agent gave it out, on one connection. */
export interface Challenge {
  text: string;
  /** `performance.now()` when it was made: no wall clock is involved. */
  madeAt: number;
  answered: boolean;
}

export function trustedKeys(config: Config): TrustedKey[] {
  return config.trust.flatMap(entry => [entry.key].flat().map(text => ({ ...readPublicKey(text), entry })));
}

/**
 * Who says what: checks the signature over the exact bytes, then reads those bytes, then the challenge. The challenge is
 * used up by the first well-signed command, whatever becomes of it. Throws `Refused`.
 */
export function authenticate(
  signed: Signed,
  keys: readonly TrustedKey[],
  challenge: Challenge,
  now = performance.now(),
): { command: Command; key: TrustedKey } {
  const proof = verify(signed, PAYLOAD_TYPES.command, keys);
  if (!proof) throw new Refused(refusals.signatureInvalid());
  const command = readCommand(proof.body);
  if (command.challenge !== challenge.text) throw new Refused(refusals.challengeStale());
  if (challenge.answered) throw new Refused(refusals.challengeReplayed());
  challenge.answered = true;
  if (now - challenge.madeAt > CHALLENGE_MS) throw new Refused(refusals.challengeStale());
  return { command, key: proof.key };
}

function readCommand(body: Buffer): Command {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new Refused(refusals.commandMalformed('it is not JSON.'));
  }
  const result = Command.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.commandMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}.`));
}
