import { z } from 'zod';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';
import { sendLimitedRequest } from './http-request.ts';

/** The sender of a connection, as the tailnet knows it. */
export interface TailscalePeer {
  /** The node's name. */
  node: string;
  /** The values of its grant; absent if the trust entry requires no capability. */
  capabilities?: Capability[] | undefined;
}

/** The remote address of a connection, from the kernel. */
export interface PeerAddress {
  address: string;
  port: number;
}

/** The peers that a trust entry accepts. Every rule that is present must match. */
export interface PeerRules {
  tags?: readonly string[] | undefined;
  users?: readonly string[] | undefined;
  capability?: string | undefined;
}

const TIMEOUT_MS = 2_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/** The fields of tailscaled's answer that the agent reads: https://pkg.go.dev/tailscale.com/client/tailscale/apitype#WhoIsResponse */
const WhoIs = z.looseObject({
  Node: z.looseObject({ Name: z.string(), Tags: z.array(z.string()).nullish() }),
  UserProfile: z.looseObject({ LoginName: z.string() }).nullish(),
  CapMap: z.record(z.string(), z.array(z.unknown()).nullable()).nullish(),
});
type WhoIs = z.infer<typeof WhoIs>;

const CapabilityValue = z.strictObject({
  stacks: z.array(z.string()).optional(),
  actions: z.array(z.string()).optional(),
});

/**
 * Returns the peer of a connection if the trust entry accepts it. Asks tailscaled again for each connection. Throws
 * `Refused`: `tailnet-unreachable`, `peer-unknown`, `peer-not-allowed`.
 */
export async function identifyPeer(socket: string, from: PeerAddress, rules: PeerRules): Promise<TailscalePeer> {
  const found = await fetchWhoIs(socket, from);
  const node = found.Node.Name.replace(/\.$/, '');
  const tags = found.Node.Tags ?? [];
  // A tagged node has no owner: its profile is a placeholder.
  const user = tags.length > 0 ? undefined : found.UserProfile?.LoginName;
  const { tags: wantedTags, users, capability } = rules;
  if (wantedTags || users) {
    const isKnown = wantedTags?.some(tag => tags.includes(tag)) || users?.some(allowed => allowed === user);
    if (!isKnown) throw new Refused(refusals.peerNotAllowed(node, user ?? (tags.join(', ') || 'no user')));
  }
  if (capability === undefined) return { node };
  const values = found.CapMap?.[capability];
  if (!values) throw new Refused(refusals.peerNotAllowed(node, `without the capability ${capability}`));
  return { node, capabilities: values.map(value => readCapability(value, node, capability)) };
}

/** The tailnet's owner writes these by hand: a value that is not understood grants nothing. */
function readCapability(value: unknown, node: string, name: string): Capability {
  const parsed = CapabilityValue.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new Refused(refusals.peerNotAllowed(node, `with invalid values of ${name}`));
}

async function fetchWhoIs(socket: string, { address, port }: PeerAddress): Promise<WhoIs> {
  const host = address.includes(':') ? `[${address}]` : address;
  const { status, body } = await requestTailscale(
    socket,
    `/localapi/v0/whois?proto=tcp&addr=${encodeURIComponent(`${host}:${port}`)}`,
  );
  if (status === 404) throw new Refused(refusals.peerUnknown(address));
  if (status !== 200) throw new Refused(refusals.tailnetUnreachable(socket, `it answered ${status}`));
  try {
    return WhoIs.parse(JSON.parse(body));
  } catch {
    throw new Refused(refusals.tailnetUnreachable(socket, 'its answer is not understood'));
  }
}

async function requestTailscale(socket: string, path: string): Promise<{ status: number; body: string }> {
  try {
    const { status, body } = await sendLimitedRequest({
      url: `http://local-tailscaled.sock${path}`,
      socketPath: socket,
      timeout: TIMEOUT_MS,
      maxBytes: MAX_ANSWER_BYTES,
    });
    return { status, body: body.toString() };
  } catch (error) {
    const isForbidden = (error as NodeJS.ErrnoException).code === 'EACCES';
    const why = isForbidden ? 'the agent’s user may not open the socket' : messageOf(error);
    throw new Refused(refusals.tailnetUnreachable(socket, why));
  }
}

/** A value of the tailnet's capability. A field that is absent restricts nothing. */
export interface Capability {
  stacks?: string[] | undefined;
  actions?: string[] | undefined;
}
