import { BlockList, isIPv6 } from 'node:net';
import { type Refusal, Refused } from '../../protocol/refusal.ts';
import { identifyPeer, type PeerAddress, type PeerRules } from '../outbound/tailscale.ts';

/** The age of an answer, as that of /metrics and /readyz themselves. */
const CACHE_MS = 1_000;
const MAX_ADDRESSES = 256;

interface Answer {
  refusal: Promise<Refusal | undefined>;
  /** Infinite while it is awaited. */
  until: number;
}

/** Asks tailscaled about the readers of endpoints: once a second for each address, also if many requests come at once. */
export class PeerAccess {
  readonly #identify: typeof identifyPeer;
  readonly #now: () => number;
  readonly #answers = new Map<string, Answer>();
  #rules: PeerRules | undefined;
  #socket = '';

  constructor(identify = identifyPeer, now = () => performance.now()) {
    this.#identify = identify;
    this.#now = now;
  }

  /** Returns the refusal of a peer that the rules do not accept. */
  check(socket: string, from: PeerAddress, rules: PeerRules): Promise<Refusal | undefined> {
    // A reload makes other rules, and what was answered by the old ones is void.
    if (rules !== this.#rules || socket !== this.#socket) this.#answers.clear();
    this.#rules = rules;
    this.#socket = socket;
    const key = keyOf(from);
    const known = this.#answers.get(key);
    if (known && this.#now() < known.until) return known.refusal;
    this.#answers.delete(key);
    const [oldest] = this.#answers.keys();
    if (oldest !== undefined && this.#answers.size >= MAX_ADDRESSES) this.#answers.delete(oldest);
    const answer: Answer = { refusal: this.#ask(socket, from, rules), until: Number.POSITIVE_INFINITY };
    const expire = () => {
      answer.until = this.#now() + CACHE_MS;
    };
    answer.refusal.then(expire, expire);
    this.#answers.set(key, answer);
    return answer.refusal;
  }

  async #ask(socket: string, from: PeerAddress, rules: PeerRules): Promise<Refusal | undefined> {
    try {
      await this.#identify(socket, from, rules);
      return undefined;
    } catch (error) {
      if (error instanceof Refused) return error.refusal;
      throw error;
    }
  }
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** An address of the tailnet is one node. Behind a proxy on this host, each port of loopback can be another one. */
function keyOf({ address, port }: PeerAddress): string {
  return loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4') ? `${address} ${port}` : address;
}
