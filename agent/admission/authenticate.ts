import { Command } from '../../protocol/command.ts';
import { type PublicKey, readPublicKey } from '../../protocol/keys.ts';
import { Refused } from '../../protocol/refusal.ts';
import { audienceOf, PAYLOAD_TYPES, type Signed, verifySignature } from '../../protocol/signature.ts';
import { CHALLENGE_MS } from '../../protocol/wire.ts';
import type { Config } from '../config/load.ts';
import type { GithubClaims, TailscaleRules, TrustEntry } from '../config/trust.ts';
import type { PeerAddress, TailscalePeer } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import type { Claims, Issuer } from './oidc.ts';

/** The sender that authenticates a command: a key of agent.yaml or the token of a job, with its trust entry. */
export interface AuthenticatedSender {
  id: string;
  entry: TrustEntry;
  /** The peer as the tailnet describes it, if the entry asks. */
  peer?: TailscalePeer | undefined;
}

/** A key of agent.yaml with its trust entry. */
export interface TrustedKey extends PublicKey, AuthenticatedSender {}

/** A challenge that the agent sent on one connection. */
export interface Challenge {
  text: string;
  /** `performance.now()` at its creation, so that the wall clock does not matter. */
  madeAt: number;
  answered: boolean;
}

export function trustedKeys(config: Config): TrustedKey[] {
  return config.trust.flatMap(entry =>
    entry.key === undefined ? [] : [entry.key].flat().map(text => ({ ...readPublicKey(text), entry })),
  );
}

/** The basis of authentication: keys, trust entries, and the issuer of tokens. */
export interface AuthContext {
  agent: string;
  keys: readonly TrustedKey[];
  entries: readonly TrustEntry[];
  issuer: Pick<Issuer, 'verify'>;
  /** Asks the tailnet who a peer is. Throws `Refused`. */
  identify: (from: PeerAddress, rules: TailscaleRules) => Promise<TailscalePeer>;
}

/**
 * Authenticates a command: checks signature and token over the exact bytes, then parses those bytes, then checks the
 * challenge. The first authenticated command uses the challenge up, even if it is refused later. Throws `Refused`.
 */
export async function authenticate(
  signed: Signed & { oidc?: string | undefined },
  trust: AuthContext,
  challenge: Challenge,
  from: PeerAddress,
  now = () => performance.now(),
): Promise<{ command: Command; sender: AuthenticatedSender }> {
  const proof = verifySignature(signed, PAYLOAD_TYPES.command, trust.keys);
  if (
    !proof &&
    (signed.signatures.length > 0 || signed.oidc === undefined || signed.payloadType !== PAYLOAD_TYPES.command)
  )
    throw new Refused(refusals.signatureInvalid());
  const body = proof?.body ?? Buffer.from(signed.payload, 'base64');
  const claims = await verifyToken(signed.oidc, body, trust, proof?.key.entry);
  const authenticated = proof?.key ?? findKeylessEntry(claims, trust.entries);
  const command = readCommand(body);
  if (claims) checkClaims(claims, command);
  if (command.challenge !== challenge.text) throw new Refused(refusals.challengeStale());
  if (challenge.answered) throw new Refused(refusals.challengeReplayed());
  challenge.answered = true;
  if (now() - challenge.madeAt > CHALLENGE_MS) throw new Refused(refusals.challengeStale());
  const { tailscale } = authenticated.entry;
  const sender = tailscale ? { ...authenticated, peer: await trust.identify(from, tailscale) } : authenticated;
  return { command, sender };
}

/** Returns true if a sender is still trusted: its entry exists, and has the same key or the same claims. */
export function isStillTrusted(
  { id, entry }: AuthenticatedSender,
  { keys, entries }: Pick<AuthContext, 'keys' | 'entries'>,
): boolean {
  const current = entries.find(({ name }) => name === entry.name);
  if (!current) return false;
  if (entry.key !== undefined) return keys.some(key => key.id === id && key.entry.name === entry.name);
  return current.key === undefined && JSON.stringify(current.github) === JSON.stringify(entry.github);
}

/** Returns the claims of the token if the entry requires one. A token that no entry requires is ignored. */
async function verifyToken(
  token: string | undefined,
  body: Buffer,
  { agent, issuer }: AuthContext,
  entry: TrustEntry | undefined,
): Promise<Claims | undefined> {
  if (entry && !entry.github) return undefined;
  if (token === undefined) throw new Refused(refusals.tokenMissing(entry?.name ?? ''));
  const claims = await issuer.verify(token, audienceOf(agent, PAYLOAD_TYPES.command, body));
  const claim = entry?.github && findMismatch(entry.github, claims);
  if (claim) throw new Refused(refusals.tokenNotAllowed(claim, formatClaim(claims[claim])));
  return claims;
}

/** Returns the entry without a key whose claims match. The refusal names the first mismatch of the last entry. */
function findKeylessEntry(claims: Claims | undefined, entries: readonly TrustEntry[]): AuthenticatedSender {
  let mismatch: keyof GithubClaims = 'repository_id';
  for (const entry of entries) {
    if (entry.key !== undefined || !entry.github || !claims) continue;
    const claim = findMismatch(entry.github, claims);
    if (!claim) return { id: `github:${claims.repository_id}`, entry };
    mismatch = claim;
  }
  throw new Refused(refusals.tokenNotAllowed(mismatch, formatClaim(claims?.[mismatch])));
}

/** Returns the first claim that has none of the wanted values. */
function findMismatch(wanted: GithubClaims, claims: Claims): keyof GithubClaims | undefined {
  const names = Object.keys(wanted) as (keyof GithubClaims)[];
  return names.find(name => wanted[name] !== undefined && ![wanted[name]].flat().includes(String(claims[name] ?? '')));
}

/** Compares the command with the token: a token authenticates only commands of its own job. */
function checkClaims(claims: Claims, { origin }: Command): void {
  const pairs: [keyof Claims & string, string][] = [
    ['repository_id', origin.repository_id],
    ['repository', origin.repository],
    ['sha', origin.sha],
    ['ref', origin.ref],
    ['event_name', origin.event],
    ['run_id', origin.run_id],
    ['run_attempt', origin.run_attempt],
  ];
  const [claim] = pairs.find(([name, value]) => String(claims[name] ?? '') !== value) ?? [];
  if (claim) throw new Refused(refusals.tokenMismatch(claim));
}

function formatClaim(value: unknown): string {
  return value === undefined ? 'absent' : JSON.stringify(value).slice(0, 200);
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
