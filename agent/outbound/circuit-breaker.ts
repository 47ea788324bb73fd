import type { Refusal } from '../../protocol/refusal.ts';
import { Failure } from '../plan/failure.ts';

/** After so many failures in a row a circuit opens for so many milliseconds; then the next try decides. */
const OPEN_AFTER = 5;
const HALF_OPEN_AFTER = 60_000;

/** A bound for the memory: more services than any host asks. */
const MAX_CIRCUITS = 500;

/** A service that the agent does not ask until `until`. */
export interface OpenCircuit {
  name: string;
  failures: number;
  until: Date;
}

/** Thrown in place of a request to a service whose circuit is open. */
export class CircuitOpen extends Error {
  override name = 'CircuitOpen';
  readonly open: OpenCircuit;

  constructor(open: OpenCircuit) {
    super(describeCircuit(open));
    this.open = open;
  }
}

interface Circuit {
  failures: number;
  /** Milliseconds since 1970; 0 before the first time that it opens. */
  openUntil: number;
}

/**
 * Circuit breakers for the services that this host asks: GitHub (`github`), its keys (`oidc`), registries
 * (`registry NAME`) and external addresses of `verify` (`verify HOST`). A service has a circuit from its first failure to
 * its next success.
 */
export class CircuitBreakers {
  readonly #circuits = new Map<string, Circuit>();

  /** Returns the open circuit of a service; undefined if the agent may ask it. */
  open(name: string): OpenCircuit | undefined {
    const circuit = this.#circuits.get(name);
    if (!circuit || Date.now() >= circuit.openUntil) return undefined;
    return { name, failures: circuit.failures, until: new Date(circuit.openUntil) };
  }

  /** Counts a failure. A request that was sent before the circuit opened does not count. */
  failed(name: string): void {
    if (this.open(name) || (!this.#circuits.has(name) && this.#circuits.size >= MAX_CIRCUITS)) return;
    const failures = (this.#circuits.get(name)?.failures ?? 0) + 1;
    this.#circuits.set(name, { failures, openUntil: failures < OPEN_AFTER ? 0 : Date.now() + HALF_OPEN_AFTER });
  }

  /** Closes the circuit, unless it is open: then only a later try decides. */
  succeeded(name: string): void {
    if (!this.open(name)) this.#circuits.delete(name);
  }

  /** Does the work. Throws {@link CircuitOpen} if the circuit is open. Only errors that `isFault` accepts are counted. */
  async execute<T>(name: string, work: () => Promise<T>, isFault: (error: unknown) => boolean): Promise<T> {
    const open = this.open(name);
    if (open) throw new CircuitOpen(open);
    try {
      const result = await work();
      this.succeeded(name);
      return result;
    } catch (error) {
      if (isFault(error)) this.failed(name);
      throw error;
    }
  }

  /** Returns all circuits: 0 closed, 1 open, 0.5 half open. A service without failures is not listed. */
  states(): { name: string; state: number }[] {
    return [...this.#circuits].map(([name, { openUntil }]) => ({
      name,
      state: openUntil === 0 ? 0 : this.open(name) ? 1 : 0.5,
    }));
  }
}

function describeCircuit({ name, failures, until }: OpenCircuit): string {
  return `${name} has failed ${failures} times in a row: its circuit is open until ${until.toISOString()}.`;
}

/** Returns the refusal, or the failure, for a request to a service whose circuit is open. */
export function circuitOpenRefusal(open: OpenCircuit): Refusal {
  return {
    code: 'circuit-open',
    message: `${describeCircuit(open)} Nothing was changed.`,
    remedy:
      'Find out why it fails (the metric chatops_circuit_state lists each circuit), and try again after that time.',
  };
}

/** Throws Failure `circuit-open` if the circuit of an external host that an intent asks is open. */
export function checkCircuits(circuits: CircuitBreakers | undefined, hosts: string[]): void {
  for (const host of hosts) {
    const open = isExternalHost(host) ? circuits?.open(`verify ${host}`) : undefined;
    if (!open) continue;
    const { code, message, remedy } = circuitOpenRefusal(open);
    throw new Failure(code, message, remedy);
  }
}

/** Returns true for a host of `verify` that is neither this host nor a service: an address or a name with a dot. */
export function isExternalHost(host: string): boolean {
  return /[.:]/.test(host) && !/^(127\.|::1$|0\.0\.0\.0$|::$)/.test(host);
}

/** Returns true if a pull's output says that the registry fails, not that an image is missing or forbidden. */
export function isRegistryDown(output: string): boolean {
  return /dial tcp|i\/o timeout|TLS handshake timeout|connection refused|no such host|server misbehaving|context deadline exceeded|Client\.Timeout|toomanyrequests|\b50[0234]\b|Service Unavailable|Bad Gateway/i.test(
    output,
  );
}
