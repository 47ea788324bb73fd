import { request } from 'node:http';
import { z } from 'zod';
import { Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';

/** What the tailnet says of the sender. */
export interface TailscalePeer {
  /** The node's name. */
  node: string;
  /** What a grant lets it do here; absent where the entry asks for no capability. */
  capabilities?: Capability[] | undefined;
}

/** Where a connection comes from, as the kernel says. */
export interface PeerAddress {
  address: string;
  port: number;
}

/** The peer that a trust entry accepts. Every rule that is present must hold. */
export interface PeerRules {
  tags?: readonly string[] | undefined;
  users?: readonly string[] | undefined;
  capability?: string | undefined;
}

const TIMEOUT_MS = 2_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/** What is read of tailscaled's answer: https://pkg.go.dev/tailscale.com/client/tailscale/apitype#WhoIsResponse */
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
 * The sender by the tailnet, where it is whom the entry wants. Asked anew for each connection. Throws `Refused`:
 * `tailnet-unreachable`, `peer-unknown`, `peer-not-allowed`.
 */
export async function identifyPeer(socket: string, from: PeerAddress, rules: PeerRules): Promise<TailscalePeer> {
  const found = await fetchWhoIs(socket, from);
  const node = found.Node.Name.replace(/\.$/, '');
  const tags = found.Node.Tags ?? [];
  // A tagged node belongs to nobody: its profile is a stand-in.
  const user = tags.length > 0 ? undefined : found.UserProfile?.LoginName;
  const { tags: wantedTags, users, capability } = rules;
  if (wantedTags || users) {
    const isKnown = wantedTags?.some(tag => tags.includes(tag)) || users?.some(one => one === user);
    if (!isKnown) throw new Refused(refusals.peerNotAllowed(node, user ?? (tags.join(', ') || 'nobody')));
  }
  if (capability === undefined) return { node };
  const values = found.CapMap?.[capability];
  if (!values) throw new Refused(refusals.peerNotAllowed(node, `without the capability ${capability}`));
  return { node, capabilities: values.map(value => readCapability(value, node, capability)) };
}

/** The tailnet's owner writes these by hand: what can't be read gives nothing. */
function readCapability(value: unknown, node: string, name: string): Capability {
  const read = CapabilityValue.safeParse(value);
  if (read.success) return read.data;
  throw new Refused(refusals.peerNotAllowed(node, `with values of ${name} that can't be read`));
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
    throw new Refused(refusals.tailnetUnreachable(socket, 'its answer can’t be read'));
  }
}

function requestTailscale(socket: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((done, fail) => {
    const complain = (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EACCES' ? 'the agent’s user may not open the socket' : error.message;
      fail(new Refused(refusals.tailnetUnreachable(socket, why)));
    };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const asked = request(
      { socketPath: socket, path, headers: { host: 'local-tailscaled.sock' }, signal },
      response => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) asked.destroy(new Error('its answer is too large'));
        });
        response.on('end', () => done({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
        response.on('error', complain);
      },
    );
    asked.on('error', complain);
    asked.end();
  });
}

/** A value of the tailnet's capability. What is not named is not narrowed. */
export interface Capability {
  stacks?: string[] | undefined;
  actions?: string[] | undefined;
}
