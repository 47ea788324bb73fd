import { createHash } from 'node:crypto';
import { Command } from '../../protocol/command.ts';
import { type PublicKey, readPublicKey } from '../../protocol/keys.ts';
import { Offer } from '../../protocol/offer.ts';
import { Refused } from '../../protocol/refusal.ts';
import { audienceOf, PAYLOAD_TYPES, verifySignature } from '../../protocol/signature.ts';
import { CHALLENGE_MS, type OfferFrame } from '../../protocol/wire.ts';
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

/** An offer whose sender is authenticated. Only the command that it describes may follow. */
export interface AuthenticatedOffer {
  offer: Offer;
  sender: AuthenticatedSender;
  /** The claims of the token that was required, if any. */
  claims: Claims | undefined;
}

/**
 * Authenticates the sender of an offer: checks signature and token over its exact bytes, then parses those bytes, then
 * checks challenge and agent. The first authenticated offer uses the challenge up, even if it is refused later. Throws
 * `Refused`.
 */
export async function authenticate(
  frame: OfferFrame,
  trust: AuthContext,
  challenge: Challenge,
  from: PeerAddress,
  now = () => performance.now(),
): Promise<AuthenticatedOffer> {
  const proof = verifySignature(frame, PAYLOAD_TYPES.offer, trust.keys);
  if (!proof && !isKeyless(frame, trust)) throw new Refused(refusals.signatureInvalid());
  const bytes = proof?.body ?? Buffer.from(frame.payload, 'base64');
  const claims = await verifyToken(frame.oidc, bytes, trust, proof?.key.entry);
  const authenticated = proof?.key ?? findKeylessEntry(claims, trust.entries);
  const offer = readOffer(bytes);
  if (offer.challenge !== challenge.text) throw new Refused(refusals.challengeStale());
  if (challenge.answered) throw new Refused(refusals.challengeReplayed());
  challenge.answered = true;
  if (now() - challenge.madeAt > CHALLENGE_MS) throw new Refused(refusals.challengeStale());
  if (offer.agent !== trust.agent) throw new Refused(refusals.audienceMismatch(offer.agent, trust.agent));
  const { tailscale } = authenticated.entry;
  const sender = tailscale ? { ...authenticated, peer: await trust.identify(from, tailscale) } : authenticated;
  return { offer, sender, claims };
}

/**
 * Parses the bytes of a command after checking that they are those of the offer. The command must name the same challenge,
 * and the job of the token. Throws `Refused`.
 */
export function openCommand(body: Buffer, { offer, claims }: AuthenticatedOffer): Command {
  if (body.length !== offer.size || createHash('sha256').update(body).digest('hex') !== offer.sha256)
    throw new Refused(refusals.commandMalformed('it is not the command of the offer.'));
  const command = readCommand(body);
  if (claims) checkClaims(claims, command);
  if (command.challenge !== offer.challenge) throw new Refused(refusals.challengeStale());
  return command;
}

/** Returns true for a token in place of signatures, if an entry of agent.yaml accepts one. */
function isKeyless({ payloadType, signatures, oidc }: OfferFrame, { entries }: AuthContext): boolean {
  return (
    payloadType === PAYLOAD_TYPES.offer &&
    signatures.length === 0 &&
    oidc !== undefined &&
    entries.some(({ key }) => key === undefined)
  );
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
  offer: Buffer,
  { agent, issuer }: AuthContext,
  entry: TrustEntry | undefined,
): Promise<Claims | undefined> {
  if (entry && !entry.github) return undefined;
  if (token === undefined) throw new Refused(refusals.tokenMissing(entry?.name ?? ''));
  const claims = await issuer.verify(token, audienceOf(agent, offer));
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

function readOffer(bytes: Buffer): Offer {
  const offer = Offer.safeParse(parseJson(bytes)).data;
  if (!offer) throw new Refused(refusals.frameMalformed('its payload is not an offer'));
  return offer;
}

function readCommand(body: Buffer): Command {
  const value = parseJson(body);
  if (value === undefined) throw new Refused(refusals.commandMalformed('it is not JSON.'));
  const result = Command.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.commandMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}.`));
}

/** Returns undefined if the bytes are not JSON. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}
