import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { AuthenticatedSender } from '../admission/authenticate.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import type { EndpointDeps } from './endpoint.ts';
import { answerRequest, type HttpEndpointDeps } from './http-endpoint.ts';
import { addressOf } from './http-io.ts';
import { PeerAccess } from './peer-access.ts';
import { SessionEndpoint } from './session-endpoint.ts';
import { readTls, watchCertificate } from './tls.ts';

export interface HttpServerOptions extends EndpointDeps, HttpEndpointDeps {
  log: (line: string) => void;
  pingMs?: number | undefined;
}

/** The head of a request, and the whole request, must arrive within these times: slow requests hold a connection. */
const HEAD_MS = 5_000;
const REQUEST_MS = 10_000;

const MAX_HEADER_BYTES = 16 * 1024;
/** Requests that may wait for their answers on one connection. Browsers, Prometheus and health checks send one at a time. */
const MAX_PIPELINED = 4;
/** The time that clients have to close by themselves. */
const CLOSE_MS = 1_000;

/** The agent's HTTP or HTTPS server: plain requests and the upgrade to WebSocket. */
export class AgentServer {
  readonly #http: Server;
  readonly #sessions: SessionEndpoint;
  readonly #limits: ConnectionLimits;
  /** Requests of a connection that wait for their answers. */
  readonly #waiting = new WeakMap<Socket, number>();
  readonly #certificate: ReturnType<typeof watchCertificate> | undefined;

  constructor(options: HttpServerOptions) {
    const { live, limits, log, pingMs } = options;
    const { tls } = live.current;
    this.#limits = limits;
    const settings = {
      headersTimeout: HEAD_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: 500,
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: 5_000,
    };
    const peers = new PeerAccess();
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      if (this.#isPipelined(request.socket, response)) return;
      answerRequest(request, response, options, peers).catch((error: unknown) => {
        console.error('http: fault:', error);
        response.destroy();
      });
    };
    if (tls) {
      const server = createTlsServer({ ...settings, ...readTls(tls), handshakeTimeout: HEAD_MS }, answer);
      this.#certificate = watchCertificate(server, tls, log);
      this.#http = server;
    } else this.#http = createServer(settings, answer);
    live.onChange(() => () => this.#certificate?.check());
    this.#http.on('connection', (socket: Socket) => limits.track(socket));
    this.#sessions = new SessionEndpoint(options, limits, pingMs);
    this.#http.on('upgrade', (request, socket, head) => {
      this.#sessions.upgrade(request, socket, head).catch((error: unknown) => {
        console.error('upgrade: fault:', error);
        socket.destroy();
      });
    });
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen(port, host, () => {
        this.#http.off('error', reject);
        resolve();
      });
    });
  }

  /** The port on which the server listens, also if agent.yaml says 0. */
  get port(): number {
    const address = this.#http.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /**
   * Excludes an address that sends requests without waiting for answers: Node parses all of a packet at once, a thousand
   * requests, so that one device keeps the agent busy.
   */
  #isPipelined(socket: Socket, response: ServerResponse): boolean {
    const waiting = (this.#waiting.get(socket) ?? 0) + 1;
    this.#waiting.set(socket, waiting);
    response.on('close', () => this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1));
    if (waiting === MAX_PIPELINED + 1) this.#limits.exclude(addressOf(socket));
    return waiting > MAX_PIPELINED;
  }

  /** The number of open WebSocket connections. */
  get connections(): number {
    return this.#sessions.count;
  }

  /** Closes the sessions of senders that are not trusted any more. Returns these senders. */
  revoke(isTrusted: (sender: AuthenticatedSender) => boolean): AuthenticatedSender[] {
    return this.#sessions.revoke(isTrusted);
  }

  /** Accepts no new connections, and closes the open ones. */
  async close(): Promise<void> {
    this.#certificate?.stop();
    this.#sessions.close();
    const closed = new Promise(resolve => this.#http.close(resolve));
    this.#http.closeIdleConnections();
    setTimeout(() => {
      this.#sessions.terminate();
      this.#http.closeAllConnections();
    }, CLOSE_MS).unref();
    await closed;
  }
}
