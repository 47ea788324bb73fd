import type { BlockList, Socket } from 'node:net';
import type { RateLimiterRes } from 'rate-limiter-flexible';
import RateLimiterMemory from 'rate-limiter-flexible/lib/RateLimiterMemory.js';
import { parseDuration } from '../../intents/duration.ts';
import type { Live } from '../config/live.ts';
import type { Config } from '../config/load.ts';
import { refusals } from '../refusals.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import type { EndpointRecorder } from './endpoint-recorder.ts';
import { addressOf } from './http-io.ts';

/** Limits by address: which may connect, how often, and with how many connections at once. Follows agent.yaml. */
export class ConnectionLimits {
  readonly #live: Live<Config>;
  readonly #recorder: Pick<EndpointRecorder, 'refused'>;
  /** Open connections by address. */
  readonly #open = new Map<string, number>();
  #allowed: BlockList;
  #limiter: RateLimiterMemory;
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
  async secondsToWait(address: string): Promise<number> {
    if (address === this.#exempted?.address && performance.now() < this.#exempted.until) return 0;
    try {
      await this.#limiter.consume(address);
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

  /** Counts an open socket. Closes it if its address has too many, so that one address can't use up all connections. */
  track(socket: Socket): void {
    const address = addressOf(socket);
    const limit = this.#live.current.limits.connections_per_address;
    const open = (this.#open.get(address) ?? 0) + 1;
    this.#open.set(address, open);
    socket.on('close', () => {
      const left = (this.#open.get(address) ?? 1) - 1;
      if (left > 0) this.#open.set(address, left);
      else this.#open.delete(address);
    });
    if (open <= limit) return;
    this.#recorder.refused(refusals.tooManyConnections(limit), { address });
    socket.destroy();
  }
}

function createLimiter({ rate_limit }: Config): RateLimiterMemory {
  return new RateLimiterMemory({ points: rate_limit.commands, duration: parseDuration(rate_limit.per) / 1000 });
}
