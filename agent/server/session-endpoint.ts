import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Refusal } from '../../protocol/refusal.ts';
import { MAX_CLIENT_FRAME_BYTES, SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';
import type { AuthenticatedSender } from '../admission/authenticate.ts';
import { refusals } from '../refusals.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import type { EndpointDeps } from './endpoint.ts';
import { isOwnHost } from './http-access.ts';
import { addressOf, pathOf, rejectUpgrade } from './http-io.ts';
import { runSession } from './session.ts';

const PING_MS = 20_000;
const MAX_MISSED_PINGS = 2;
/** Fragments of a frame. An action sends none; a library may split large frames. */
const MAX_FRAGMENTS = 16;
/** All that the agent reads from a connection before it has authenticated the sender: one frame, its head, and a pong. */
const MAX_UNAUTHENTICATED_BYTES = MAX_CLIENT_FRAME_BYTES + 1024;

type PingedSocket = WebSocket & { missed?: number };

/** The WebSocket endpoint. It checks address, rate, Origin, host and path before a WebSocket exists. */
export class SessionEndpoint {
  readonly #deps: EndpointDeps;
  readonly #limits: ConnectionLimits;
  readonly #sockets: WebSocketServer;
  readonly #pings: NodeJS.Timeout;
  /** Sessions whose sender is authenticated. */
  readonly #authenticated = new Map<WebSocket, AuthenticatedSender>();

  constructor(deps: EndpointDeps, limits: ConnectionLimits, pingMs = PING_MS) {
    this.#deps = deps;
    this.#limits = limits;
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: MAX_CLIENT_FRAME_BYTES,
      maxFragments: MAX_FRAGMENTS,
      // One event of a connection per turn, so that a client with many small frames doesn't delay the others.
      allowSynchronousEvents: false,
      perMessageDeflate: false,
      handleProtocols: offered => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    });
    this.#pings = setInterval(() => this.#pingAll(), pingMs);
    this.#pings.unref();
  }

  /** The number of open sessions. */
  get count(): number {
    return this.#sockets.clients.size;
  }

  /** Answers an upgrade request of the HTTP server. */
  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const address = addressOf(request.socket);
    const refuse = (status: number, refusal: Refusal, headers: Record<string, string> = {}) => {
      this.#deps.recorder.refused(refusal, { address });
      rejectUpgrade(socket, status, refusal, headers);
    };
    if (!this.#limits.isAllowed(address)) return refuse(403, refusals.addressNotAllowed(address));
    const wait = await this.#limits.secondsToWait(address);
    if (wait > 0) return refuse(429, refusals.rateLimited(wait), { 'Retry-After': String(wait) });
    if (request.headers.origin !== undefined) return refuse(403, refusals.originNotAllowed());
    const { host } = request.headers;
    if (!isOwnHost(host, this.#deps.live.current)) return refuse(421, refusals.hostNotOwn(host ?? ''));
    if (pathOf(request) !== WIRE_PATH) return refuse(404, refusals.frameMalformed(`the path is not ${WIRE_PATH}`));
    const offered = String(request.headers['sec-websocket-protocol'] ?? '');
    if (!offered.split(/\s*,\s*/).includes(SUBPROTOCOL))
      return refuse(400, refusals.protocolUnsupported(offered, SUBPROTOCOL));
    this.#sockets.handleUpgrade(request, socket, head, (accepted: PingedSocket) => {
      accepted.missed = 0;
      accepted.on('pong', () => {
        accepted.missed = 0;
      });
      accepted.on('close', () => this.#authenticated.delete(accepted));
      const count = endAfterBytes(socket, head.length);
      const from = { address, port: request.socket.remotePort ?? 0 };
      const onAuthenticated = (sender: AuthenticatedSender) => {
        socket.off('data', count);
        this.#limits.authenticated(from);
        this.#authenticated.set(accepted, sender);
      };
      runSession(accepted, from, this.#deps, onAuthenticated).catch((error: unknown) => {
        console.error('connection: fault:', error);
        accepted.close(1011);
      });
    });
  }

  /** Closes the sessions of senders that are not trusted any more. Returns these senders. */
  revoke(isTrusted: (sender: AuthenticatedSender) => boolean): AuthenticatedSender[] {
    const revoked = [...this.#authenticated].filter(([, sender]) => !isTrusted(sender));
    for (const [socket] of revoked) socket.close(1008, 'revoked');
    return revoked.map(([, sender]) => sender);
  }

  /** Asks all clients to close; `terminate` ends those that do not. */
  close(): void {
    clearInterval(this.#pings);
    for (const socket of this.#sockets.clients) socket.close(1001);
  }

  terminate(): void {
    for (const socket of this.#sockets.clients) socket.terminate();
  }

  /** Drops the connections that missed two pings. */
  #pingAll(): void {
    for (const socket of this.#sockets.clients as Set<PingedSocket>) {
      socket.missed = (socket.missed ?? 0) + 1;
      if (socket.missed > MAX_MISSED_PINGS) socket.terminate();
      else socket.ping();
    }
  }
}

/** Ends a connection that sends too much before its sender is authenticated. Returns the listener, to be removed then. */
function endAfterBytes(socket: Duplex, first: number): (chunk: Buffer) => void {
  let bytes = first;
  const count = (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_UNAUTHENTICATED_BYTES) socket.destroy();
  };
  socket.prependListener('data', count);
  return count;
}
