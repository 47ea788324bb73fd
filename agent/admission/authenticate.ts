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

/** Who vouches for a command: a key of agent.yaml or a job's token, with the entry it stands in. */
export interface AuthenticatedSender {
  id: string;
  entry: TrustEntry;
  /** What the tailnet says of the sender, where the entry asks. */
  peer?: TailscalePeer | undefined;
}

/** A key of agent.yaml with the entry it stands in. */
export interface TrustedKey extends PublicKey, AuthenticatedSender {}

/** A challenge as the agent gave it out, on one connection. */
export interface Challenge {
  text: string;
  /** `performance.now()` when it was made: no wall clock is involved. */
  madeAt: number;
  answered: boolean;
}

export function trustedKeys(config: Config): TrustedKey[] {
  return config.trust.flatMap(entry =>
    entry.key === undefined ? [] : [entry.key].flat().map(text => ({ ...readPublicKey(text), entry })),
  );
}

/** What commands are judged by: keys, entries, and the issuer of tokens. */
export interface AuthContext {
  agent: string;
  keys: readonly TrustedKey[];
  entries: readonly TrustEntry[];
  issuer: Pick<Issuer, 'verify'>;
  /** Says who a peer is by the tailnet. Throws `Refused`. */
  identify: (from: PeerAddress, rules: TailscaleRules) => Promise<TailscalePeer>;
}

/**
 * Who says what: checks signature and token over the exact bytes, then reads those bytes, then the challenge. The challenge
 * is used up by the first command that somebody vouches for, whatever becomes of it. Throws `Refused`.
 */
export async function authenticate(
  signed: Signed & { oidc?: string | undefined },
  judges: AuthContext,
  challenge: Challenge,
  from: PeerAddress,
  now = () => performance.now(),
): Promise<{ command: Command; key: AuthenticatedSender }> {
  const proof = verifySignature(signed, PAYLOAD_TYPES.command, judges.keys);
  if (
    !proof &&
    (signed.signatures.length > 0 || signed.oidc === undefined || signed.payloadType !== PAYLOAD_TYPES.command)
  )
    throw new Refused(refusals.signatureInvalid());
  const body = proof?.body ?? Buffer.from(signed.payload, 'base64');
  const claims = await verifyToken(signed.oidc, body, judges, proof?.key.entry);
  const vouched = proof?.key ?? findKeylessEntry(claims, judges.entries);
  const command = readCommand(body);
  if (claims) checkClaims(claims, command);
  if (command.challenge !== challenge.text) throw new Refused(refusals.challengeStale());
  if (challenge.answered) throw new Refused(refusals.challengeReplayed());
  challenge.answered = true;
  if (now() - challenge.madeAt > CHALLENGE_MS) throw new Refused(refusals.challengeStale());
  const { tailscale } = vouched.entry;
  const key = tailscale ? { ...vouched, peer: await judges.identify(from, tailscale) } : vouched;
  return { command, key };
}

/** Whether somebody who was trusted still is: the entry is there, and the key is in it, or the token's rules are. */
export function isStillTrusted(
  { id, entry }: AuthenticatedSender,
  { keys, entries }: Pick<AuthContext, 'keys' | 'entries'>,
): boolean {
  const now = entries.find(({ name }) => name === entry.name);
  if (!now) return false;
  if (entry.key !== undefined) return keys.some(key => key.id === id && key.entry.name === entry.name);
  return now.key === undefined && JSON.stringify(now.github) === JSON.stringify(entry.github);
}

/** The token's claims, where one is wanted. What an entry does not ask for is not looked at. */
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

/** The entry without a key whose claims fit; the last one's first misfit is told. */
function findKeylessEntry(claims: Claims | undefined, entries: readonly TrustEntry[]): AuthenticatedSender {
  let misfit: keyof GithubClaims = 'repository_id';
  for (const entry of entries) {
    if (entry.key !== undefined || !entry.github || !claims) continue;
    const claim = findMismatch(entry.github, claims);
    if (!claim) return { id: `github:${claims.repository_id}`, entry };
    misfit = claim;
  }
  throw new Refused(refusals.tokenNotAllowed(misfit, formatClaim(claims?.[misfit])));
}

/** The first claim that is none of the wanted values. */
function findMismatch(wanted: GithubClaims, claims: Claims): keyof GithubClaims | undefined {
  const names = Object.keys(wanted) as (keyof GithubClaims)[];
  return names.find(name => wanted[name] !== undefined && ![wanted[name]].flat().includes(String(claims[name] ?? '')));
}

/** A token vouches for one job: the command must say of itself what the token says of that job. */
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
  const [claim] = pairs.find(([name, said]) => String(claims[name] ?? '') !== said) ?? [];
  if (claim) throw new Refused(refusals.tokenMismatch(claim));
}

function formatClaim(value: unknown): string {
  return value === undefined ? 'not there' : JSON.stringify(value).slice(0, 200);
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
