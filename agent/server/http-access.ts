import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { messageOf, type Refusal } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import type { PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import { readSecretFile } from '../system/secret-file.ts';
import type { PeerAccess } from './peer-access.ts';

/**
 * Returns true if the Host header is a name of this agent. A web page can point any name at this agent (DNS rebinding), but
 * the browser then sends that name.
 */
export function isOwnHost(header: string | undefined, { agent, doors }: Pick<Config, 'agent' | 'doors'>): boolean {
  const name = (header ?? '').replace(/:\d{1,5}$/, '').toLowerCase();
  if (name === '') return false;
  const own = [agent, hostname(), hostname().split('.')[0] ?? '', 'localhost', ...doors.hosts];
  return (
    isIP(name.replace(/^\[|\]$/g, '')) !== 0 ||
    own.some(one => one.toLowerCase() === name) ||
    // Tailnet names: only the tailnet can point them at an address.
    /^[a-z0-9-]+(\.[a-z0-9-]+\.ts\.net)?\.?$/.test(name)
  );
}

/** Returns a refusal if the caller may not read the endpoint. If both a token and a tailnet identity are set, either is enough. */
export async function checkReadAccess(
  request: IncomingMessage,
  from: PeerAddress,
  { doors, tailscale }: Pick<Config, 'doors' | 'tailscale'>,
  peers: PeerAccess,
): Promise<Refusal | undefined> {
  if (doors.token_file === undefined && !doors.tailscale) return undefined;
  if (doors.token_file !== undefined && hasBearerToken(request.headers.authorization, doors.token_file))
    return undefined;
  if (!doors.tailscale) return refusals.doorClosed();
  const refusal = await peers.check(tailscale.socket, from, doors.tailscale);
  return refusal && doors.token_file !== undefined ? refusals.doorClosed() : refusal;
}

/** Compares in constant time. A token file that is not readable grants no access. */
function hasBearerToken(header: string | undefined, file: string): boolean {
  const [scheme = '', token = ''] = (header ?? '').split(' ');
  if (scheme.toLowerCase() !== 'bearer' || token === '') return false;
  try {
    return timingSafeEqual(digest(token), digest(readSecretFile(file)));
  } catch (error) {
    reportUnreadable(messageOf(error));
    return false;
  }
}

let reported = { text: '', at: 0 };

/** Prints the same problem at most once a minute: any device that may connect can cause it. */
function reportUnreadable(text: string): void {
  if (text === reported.text && performance.now() - reported.at < 60_000) return;
  reported = { text, at: performance.now() };
  console.error('doors:', text);
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
