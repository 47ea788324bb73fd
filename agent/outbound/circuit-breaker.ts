import type { CircuitBreakerPolicy } from 'cockatiel';
import type { Refusal } from '../../protocol/refusal.ts';
import { Failure } from '../plan/failure.ts';

/** After so many failures in a row somebody is left alone for that long; then one try decides. */
const OPEN_AFTER = 5;
const HALF_OPEN_AFTER = 60_000;

/** More names than any host has registries and addresses that it asks. */
const MOST = 500;

/** Who is left alone, and until when. */
export interface OpenCircuit {
  name: string;
  failures: number;
  until: Date;
}

/** Somebody is left alone for now. */
export class CircuitOpen extends Error {
  override name = 'CircuitOpen';
  readonly open: OpenCircuit;

  constructor(open: OpenCircuit) {
    super(describeCircuit(open));
    this.open = open;
  }
}

interface CircuitBreaker {
  policy: CircuitBreakerPolicy;
  failures: number;
  /** Milliseconds since 1970. */
  since: number;
}

/**
 * Breakers for what this host asks of others: GitHub (`github`), its keys (`oidc`), registries (`registry NAME`) and
 * addresses of `verify` outside of the host (`verify HOST`). A name has one from its first failure on.
 */
export class CircuitBreakers {
  readonly #circuits = new Map<string, CircuitBreaker>();

  /** Undefined where it may be asked. */
  open(name: string): OpenCircuit | undefined {
    const found = this.#circuits.get(name);
    // 1: open. It stays so until somebody tries.
    if (found?.policy.state !== 1) return undefined;
    const until = found.since + HALF_OPEN_AFTER;
    return Date.now() < until ? { name, failures: found.failures, until: new Date(until) } : undefined;
  }

  /** It did not work. */
  async failed(name: string): Promise<void> {
    const circuit = this.#circuits.get(name) ?? (await this.#make(name));
    if (!circuit) return;
    const wasOpen = circuit.policy.state === 1 && this.open(name) !== undefined;
    if (!wasOpen) circuit.failures++;
    await circuit.policy.execute(() => Promise.reject(new Error(name))).catch(() => undefined);
    if (!wasOpen && circuit.policy.state === 1) circuit.since = Date.now();
  }

  /** It worked. */
  async succeeded(name: string): Promise<void> {
    const circuit = this.#circuits.get(name);
    if (!circuit) return;
    await circuit.policy.execute(async () => undefined).catch(() => undefined);
    if (circuit.policy.state === 0) this.#circuits.delete(name);
  }

  /** Does it, unless that is left alone: then throws {@link CircuitOpen}. Only what `isFault` says counts as a failure. */
  async execute<T>(name: string, work: () => Promise<T>, isFault: (error: unknown) => boolean): Promise<T> {
    const open = this.open(name);
    if (open) throw new CircuitOpen(open);
    try {
      const result = await work();
      await this.succeeded(name);
      return result;
    } catch (error) {
      if (isFault(error)) await this.failed(name);
      throw error;
    }
  }

  /** 0 closed, 1 open, 0.5 to be tried again. Closed ones without a failure are not listed. */
  states(): { name: string; state: number }[] {
    return [...this.#circuits].map(([name, { policy }]) => ({
      name,
      state: policy.state !== 1 ? 0 : this.open(name) ? 1 : 0.5,
    }));
  }

  /** Not worth its memory where everything works. */
  async #make(name: string): Promise<CircuitBreaker | undefined> {
    const { circuitBreaker, ConsecutiveBreaker, handleAll } = await import(/* webpackMode: "eager" */ 'cockatiel');
    const known = this.#circuits.get(name);
    if (known || this.#circuits.size >= MOST) return known;
    const breaker = new ConsecutiveBreaker(OPEN_AFTER);
    const circuit = {
      policy: circuitBreaker(handleAll, { halfOpenAfter: HALF_OPEN_AFTER, breaker }),
      failures: 0,
      since: 0,
    };
    this.#circuits.set(name, circuit);
    return circuit;
  }
}

function describeCircuit({ name, failures, until }: OpenCircuit): string {
  return `${name} has failed ${failures} times in a row, and is left alone until ${until.toISOString()}.`;
}

/** The refusal, or the failure, for somebody who is left alone. */
export function circuitOpenRefusal(open: OpenCircuit): Refusal {
  return {
    code: 'circuit-open',
    message: `${describeCircuit(open)} Nothing was changed.`,
    remedy: 'Find out why it does not work (chatops_circuit_state tells which), and try again after that time.',
  };
}

/** What an intent has this host ask outside of itself is not left alone right now. Throws Failure `circuit-open`. */
export function checkCircuits(circuits: CircuitBreakers | undefined, hosts: string[]): void {
  for (const host of hosts) {
    const open = isExternalHost(host) ? circuits?.open(`verify ${host}`) : undefined;
    if (!open) continue;
    const { code, message, remedy } = circuitOpenRefusal(open);
    throw new Failure(code, message, remedy);
  }
}

/** Whether a host of `verify` is neither this one nor a service: an address or a name with a dot. */
export function isExternalHost(host: string): boolean {
  return /[.:]/.test(host) && !/^(127\.|::1$|0\.0\.0\.0$|::$)/.test(host);
}

/** The registries that images are pulled from. */
export function listRegistries(images: string[]): string[] {
  const hosts = images.map(image => {
    const [first = '', ...rest] = image.split('/');
    return rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : 'docker.io';
  });
  return [...new Set(hosts)];
}

/** Whether a pull's output tells that a registry does not work, in contrast to an image that is not there or not for us. */
export function isRegistryDown(output: string): boolean {
  return /dial tcp|i\/o timeout|TLS handshake timeout|connection refused|no such host|server misbehaving|context deadline exceeded|Client\.Timeout|toomanyrequests|\b50[0234]\b|Service Unavailable|Bad Gateway/i.test(
    output,
  );
}
