import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import type { ContainerDetails, ContainerListing } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import { sendLimitedRequest } from './http-request.ts';

const TIMEOUT_MS = 15_000;

/** The engine's Date header has whole seconds, and an answer takes its time. */
const CLOCK_TOLERANCE_MS = 5_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** The Docker Engine API, read only: GET over the unix socket. */
export class DockerEngine {
  readonly socket: string;
  /** Milliseconds by which the engine's clock is ahead of this process's; 0 within the tolerance. */
  #clockSkew = 0;

  constructor(socket: string) {
    this.socket = socket;
  }

  /** Returns the parsed JSON, or null for 404. Throws {@link Failure} `docker-unreachable`. */
  async get(path: string): Promise<unknown> {
    const { status, body } = await this.#ask(path);
    if (status === 404) return null;
    if (status !== 200)
      throw this.#unreachable(`it answered ${status} to GET ${path}: ${body.toString().slice(0, 200)}`);
    return JSON.parse(body.toString());
  }

  /** Returns the last lines that a container printed; none if it is gone or its log is not readable. */
  async lastLines(container: string, count: number): Promise<string[]> {
    const { status, body } = await this.#ask(
      `/containers/${encodeURIComponent(container)}/logs?stdout=1&stderr=1&tail=${count}`,
    );
    if (status !== 200) return [];
    return stripFrameHeaders(body).split('\n').filter(Boolean);
  }

  /** Returns if the engine answers. Throws {@link Failure} `docker-unreachable`. */
  async ping(): Promise<void> {
    const { status } = await this.#ask('/_ping');
    if (status !== 200) throw this.#unreachable(`it answered ${status} to a ping`);
  }

  /** Waits for an engine that does not answer. Returns false if it still does not after `timeout` milliseconds. */
  async waitUntilReady(timeout: number, signal: AbortSignal): Promise<boolean> {
    const deadline = performance.now() + timeout;
    while (performance.now() < deadline && !signal.aborted) {
      try {
        await this.ping();
        return true;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        await sleep(500, undefined, { signal }).catch(() => undefined);
      }
    }
    return false;
  }

  /** Returns the time of the engine's clock, by which it dates its containers' states. */
  now(): number {
    return Date.now() + this.#clockSkew;
  }

  async #ask(path: string): Promise<{ status: number; body: Buffer }> {
    try {
      const { status, body, headers, receivedAt } = await sendLimitedRequest({
        url: `http://docker${path}`,
        socketPath: this.socket,
        timeout: TIMEOUT_MS,
        maxBytes: MAX_ANSWER_BYTES,
      });
      const skew = Date.parse(headers.date ?? '') - receivedAt;
      this.#clockSkew = Math.abs(skew) > CLOCK_TOLERANCE_MS ? skew : 0;
      return { status, body };
    } catch (error) {
      throw this.#unreachable(messageOf(error));
    }
  }

  #unreachable(why: string): Failure {
    return new Failure(
      'docker-unreachable',
      `The Docker engine at ${this.socket} is not available: ${why}.`,
      'Start Docker on the host, let the agent’s user read and write the socket, or correct docker.socket in agent.yaml.',
    );
  }
}

/** Removes the 8-byte headers (stream, three zeros, big-endian length) from the output of containers without a terminal. */
function stripFrameHeaders(body: Buffer): string {
  const payloads: Buffer[] = [];
  let offset = 0;
  while (offset + 8 <= body.length && (body[offset] ?? 9) <= 2 && body.readUIntBE(offset + 1, 3) === 0) {
    const length = body.readUInt32BE(offset + 4);
    payloads.push(body.subarray(offset + 8, offset + 8 + length));
    offset += 8 + length;
  }
  return Buffer.concat([...payloads, body.subarray(offset)]).toString();
}

/** Inspects each container; omits one that is gone meanwhile. */
export async function inspectAll(
  engine: DockerEngine,
  containers: ContainerListing[],
): Promise<{ listed: ContainerListing; inspected: ContainerDetails }[]> {
  const all = await Promise.all(
    containers.map(async listed => ({
      listed,
      inspected: (await engine.get(`/containers/${listed.Id}/json`)) as ContainerDetails | null,
    })),
  );
  return all.filter((one): one is { listed: ContainerListing; inspected: ContainerDetails } => one.inspected !== null);
}
