import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerDetails, ContainerListing } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';

const TIMEOUT_MS = 15_000;

/** The engine tells its time in whole seconds. */
const CLOCK_TOLERANCE_MS = 5_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** The Docker Engine API, for looking only: GET over the unix socket. */
export class DockerEngine {
  readonly socket: string;
  /** How far the engine's clock is ahead of ours, in milliseconds, as far as that can't be the way. */
  #ahead = 0;

  constructor(socket: string) {
    this.socket = socket;
  }

  /** Parsed JSON, or null for 404. Throws {@link Failure} `docker-unreachable`. */
  async get(path: string): Promise<unknown> {
    const { status, body } = await this.#ask(path);
    if (status === 404) return null;
    if (status !== 200)
      throw this.#unreachable(`it answered ${status} to GET ${path}: ${body.toString().slice(0, 200)}`);
    return JSON.parse(body.toString());
  }

  /** The last lines that a container has printed; none where it is gone or its log can't be read. */
  async lastLines(container: string, count: number): Promise<string[]> {
    const { status, body } = await this.#ask(
      `/containers/${encodeURIComponent(container)}/logs?stdout=1&stderr=1&tail=${count}`,
    );
    if (status !== 200) return [];
    return stripFrameHeaders(body).split('\n').filter(Boolean);
  }

  /** Whether the engine answers. Throws {@link Failure} `docker-unreachable`. */
  async ping(): Promise<void> {
    const { status } = await this.#ask('/_ping');
    if (status !== 200) throw this.#unreachable(`it answered ${status} to a ping`);
  }

  /** Whether it answers within that time (milliseconds). */
  async waitUntilReady(patience: number, signal: AbortSignal): Promise<boolean> {
    const deadline = performance.now() + patience;
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

  /** The time by the engine's own clock, in which its containers' times are told. */
  now(): number {
    return Date.now() + this.#ahead;
  }

  #ask(path: string): Promise<{ status: number; body: Buffer }> {
    return new Promise((done, fail) => {
      const asked = request(
        { socketPath: this.socket, path, method: 'GET', headers: { host: 'docker' }, timeout: TIMEOUT_MS },
        response => {
          const ahead = Date.parse(response.headers.date ?? '') - Date.now();
          this.#ahead = Math.abs(ahead) > CLOCK_TOLERANCE_MS ? ahead : 0;
          const chunks: Buffer[] = [];
          let bytes = 0;
          response.on('data', (chunk: Buffer) => {
            chunks.push(chunk);
            bytes += chunk.length;
            if (bytes > MAX_ANSWER_BYTES) asked.destroy(new Error('its answer is too large'));
          });
          response.on('end', () => done({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
          response.on('error', error => fail(this.#unreachable(error.message)));
        },
      );
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      asked.on('error', error => fail(this.#unreachable(error.message)));
      asked.end();
    });
  }

  #unreachable(why: string): Failure {
    return new Failure(
      'docker-unreachable',
      `The Docker engine can't be asked at ${this.socket}: ${why}.`,
      'Start Docker on the host, let the agent’s user read and write the socket, or correct docker.socket in agent.yaml.',
    );
  }
}

/** What containers without a terminal print comes in pieces with a head of 8 bytes: stream, three zeros, length (big-endian). */
function stripFrameHeaders(body: Buffer): string {
  const pieces: Buffer[] = [];
  let at = 0;
  while (at + 8 <= body.length && (body[at] ?? 9) <= 2 && body.readUIntBE(at + 1, 3) === 0) {
    const length = body.readUInt32BE(at + 4);
    pieces.push(body.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return Buffer.concat([...pieces, body.subarray(at)]).toString();
}

/** Looks at each container; one that is gone meanwhile is left out. */
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
