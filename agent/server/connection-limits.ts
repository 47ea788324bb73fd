import type { BlockList, Socket } from 'node:net';
import type { RateLimiterRes } from 'rate-limiter-flexible';
import RateLimiterMemory from 'rate-limiter-flexible/lib/RateLimiterMemory.js';
import { parseDuration } from '../../intents/duration.ts';
import type { Refusal } from '../../protocol/refusal.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import type { PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import type { EndpointRecorder } from './endpoint-recorder.ts';
import { addressOf } from './http-io.ts';

/** A connection of an address. The sender of a plain HTTP request is never authenticated here. */
interface Connection {
  socket: Socket;
  address: string;
  port: number | undefined;
  isAuthenticated: boolean;
}

/** The time for which an address may not connect after it sent what costs much and means nothing. */
const EXCLUDED_MS = 10_000;
/** Requests of an address with a body that nothing reads, in a minute. */
const MAX_UNREAD_BODIES = 20;

/** Limits by address: which may connect, how often, and with how many connections at once. Follows agent.yaml. */
export class ConnectionLimits {
  readonly #live: Live<Config>;
  readonly #recorder: Pick<EndpointRecorder, 'refused'>;
  /** Open connections, the oldest first. */
  readonly #open = new Set<Connection>();
  /** The end of the exclusion (`performance.now()`), by address. */
  readonly #excluded = new Map<string, number>();
  #allowed: BlockList;
  #limiter: RateLimiterMemory;
  readonly #unreadBodies = new RateLimiterMemory({ points: MAX_UNREAD_BODIES, duration: 60 });
  #exempted: { address: string; until: number } | undefined;

  constructor(live: Live<Config>, recorder: Pick<EndpointRecorder, 'refused'>) {
    this.#live = live;
    this.#recorder = recorder;
    this.#allowed = parseAddressRanges(live.current.allow_from);
    this.#limiter = createLimiter(live.current);
    live.onChange(next => () => {
      this.#allowed = parseAddressRanges(next.allow_from);
      this.#limiter = createLimiter(next);
    });
  }

  isAllowed(address: string): boolean {
    return this.#allowed.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
  }

  /** Counts a connection. Returns 0, or the seconds to wait if the address is over its rate. */
  secondsToWait(address: string): Promise<number> {
    return this.#consume(this.#limiter, address);
  }

  /**
   * Counts a request with a body that nothing reads, and excludes an address that sends many. Returns true if it is excluded
   * now. The parser meets each piece of such a body: many tiny ones cost more than any request.
   */
  async countUnreadBody(address: string): Promise<boolean> {
    if ((await this.#consume(this.#unreadBodies, address)) === 0) return false;
    this.exclude(address);
    return true;
  }

  async #consume(limiter: RateLimiterMemory, address: string): Promise<number> {
    if (address === this.#exempted?.address && performance.now() < this.#exempted.until) return 0;
    try {
      await limiter.consume(address);
      return 0;
    } catch (error) {
      if (error instanceof Error) throw error;
      return Math.max(1, Math.ceil((error as RateLimiterRes).msBeforeNext / 1000));
    }
  }

  /** Takes an address out of the rate limit for `ms` milliseconds: a selftest attacks from it on request. */
  exempt(address: string, ms: number): void {
    this.#exempted = { address, until: performance.now() + ms };
  }

  /**
   * Counts an open socket. Over a limit it closes the oldest connection whose sender is not authenticated: of this address,
   * or of the address with most of them. So clients that are slow or many can't take the places of others.
   */
  track(socket: Socket): void {
    const address = addressOf(socket);
    if (performance.now() < (this.#excluded.get(address) ?? 0)) return void socket.destroy();
    const connection: Connection = { socket, address, port: socket.remotePort, isAuthenticated: false };
    this.#open.add(connection);
    socket.on('close', () => this.#open.delete(connection));
    const { connections, connections_per_address } = this.#live.current.limits;
    if ([...this.#open].filter(one => one.address === address).length > connections_per_address)
      this.#closeOldest(address, refusals.tooManyConnections(connections_per_address, 'of this address'));
    const unauthenticated = Math.ceil(connections / 2);
    if (this.#unauthenticated().length > unauthenticated)
      this.#closeOldest(
        this.#busiest(),
        refusals.tooManyConnections(unauthenticated, 'without an authenticated sender'),
      );
    if (this.#open.size > connections)
      this.#closeOldest(this.#busiest(), refusals.tooManyConnections(connections, 'in total'));
  }

  /** Closes the connections of an address whose senders are not authenticated, and opens none for a while. */
  exclude(address: string): void {
    this.#recorder.refused(refusals.rateLimited(EXCLUDED_MS / 1000), { address });
    const now = performance.now();
    for (const [other, until] of this.#excluded) if (until < now) this.#excluded.delete(other);
    this.#excluded.set(address, now + EXCLUDED_MS);
    for (const one of this.#unauthenticated()) {
      if (one.address !== address) continue;
      this.#open.delete(one);
      one.socket.destroy();
    }
  }

  /** Takes a connection out of those that may be closed for a newer one. */
  authenticated({ address, port }: PeerAddress): void {
    for (const one of this.#open) if (one.address === address && one.port === port) one.isAuthenticated = true;
  }

  #unauthenticated(): Connection[] {
    return [...this.#open].filter(({ isAuthenticated }) => !isAuthenticated);
  }

  /** Returns the address with most connections whose senders are not authenticated. */
  #busiest(): string {
    const counts = new Map<string, number>();
    for (const { address } of this.#unauthenticated()) counts.set(address, (counts.get(address) ?? 0) + 1);
    return [...counts].reduce((most, one) => (one[1] > most[1] ? one : most), ['', 0])[0];
  }

  #closeOldest(address: string, refusal: Refusal): void {
    const oldest = this.#unauthenticated().find(one => one.address === address);
    if (!oldest) return;
    this.#open.delete(oldest);
    this.#recorder.refused(refusal, { address });
    oldest.socket.destroy();
  }
}

function createLimiter({ rate_limit }: Config): RateLimiterMemory {
  return new RateLimiterMemory({ points: rate_limit.commands, duration: parseDuration(rate_limit.per) / 1000 });
}
