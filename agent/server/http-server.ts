import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { BlockList, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RateLimiterRes } from 'rate-limiter-flexible';
import RateLimiterMemory from 'rate-limiter-flexible/lib/RateLimiterMemory.js';
import { type WebSocket, WebSocketServer } from 'ws';
import { parseDuration } from '../../intents/duration.ts';
import { type Refusal, Refused } from '../../protocol/refusal.ts';
import { MAX_FRAME_BYTES, SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';
import type { AuthenticatedSender } from '../admission/authenticate.ts';
import type { Config } from '../config/load.ts';
import { refusals } from '../refusals.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import { type HookAnswer, type HookDelivery, statusOf } from '../triggers/hooks.ts';
import { checkReadAccess, isOwnHost } from './http-access.ts';
import { runSession, type SessionDeps } from './session.ts';
import { readTls, watchCertificate } from './tls.ts';

/** What the doors need beside what a conversation needs. */
export interface HttpServerDeps extends SessionDeps {
  /** The metrics as text. */
  metrics: () => Promise<string>;
  /** What is not ready, one line each; empty where all is. */
  unready: () => Promise<string[]>;
  say: (line: string) => void;
  /** Takes deliveries to /hooks; throws `Refused`. */
  hooks: { take: (delivery: HookDelivery) => Promise<HookAnswer>; count: (hook: string, outcome: string) => void };
  pingMs?: number;
}

const PING_MS = 20_000;

/** A request's head must be there within this time, and all of it within the other: slow ones hold a connection. */
const HEAD_MS = 5_000;
const REQUEST_MS = 10_000;

/** Alertmanager's groups are the largest. */
const MAX_HOOK_BYTES = 256 * 1024;
const MAX_HEADER_BYTES = 16 * 1024;

/** The HTTP server with its WebSocket door. Address, rate, Origin and path are judged before a socket exists. */
export class AgentServer {
  readonly #deps: HttpServerDeps;
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #pings: NodeJS.Timeout;
  #allowed: BlockList;
  #limiter: RateLimiterMemory;
  /** Open connections by address. */
  readonly #open = new Map<string, number>();
  /** Conversations whose sender somebody has vouched for. */
  readonly #trusted = new Map<WebSocket, AuthenticatedSender>();
  #tls: ReturnType<typeof watchCertificate> | undefined;
  #exempted: { address: string; until: number } | undefined;

  constructor(doors: HttpServerDeps) {
    this.#deps = doors;
    this.#allowed = parseAddressRanges(doors.config().allow_from);
    this.#limiter = limiterOf(doors.config());
    const { tls, limits } = doors.config();
    const options = {
      headersTimeout: HEAD_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: 500,
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: 5_000,
    };
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      this.#answer(request, response).catch((error: unknown) => {
        console.error('http: fault:', error);
        response.destroy();
      });
    };
    if (tls) {
      const server = createTlsServer({ ...options, ...readTls(tls), handshakeTimeout: HEAD_MS }, answer);
      this.#tls = watchCertificate(server, tls, doors.say);
      this.#http = server;
    } else this.#http = createServer(options, answer);
    this.#http.maxConnections = limits.connections;
    this.#http.on('connection', (socket: Socket) => this.#count(socket));
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      handleProtocols: offered => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    });
    this.#http.on('upgrade', (request, socket, head) => {
      this.#upgrade(request, socket, head).catch((error: unknown) => {
        console.error('upgrade: fault:', error);
        socket.destroy();
      });
    });
    this.#pings = setInterval(() => this.#pingAll(), doors.pingMs ?? PING_MS);
    this.#pings.unref();
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((done, fail) => {
      this.#http.once('error', fail);
      this.#http.listen(port, host, () => {
        this.#http.off('error', fail);
        done();
      });
    });
  }

  /** The port it listens on (where 0 was asked for). */
  get port(): number {
    const address = this.#http.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** Open WebSocket connections. */
  get connections(): number {
    return this.#sockets.clients.size;
  }

  /** For this long (milliseconds) connections of that address are not counted: it attacks on request. */
  exemptFromLimit(address: string, time: number): void {
    this.#exempted = { address, until: performance.now() + time };
  }

  /** Takes over what a new configuration says of addresses and rates. */
  reload(config: Config): void {
    this.#allowed = parseAddressRanges(config.allow_from);
    this.#limiter = limiterOf(config);
    this.#http.maxConnections = config.limits.connections;
    this.#tls?.look();
  }

  /** Ends the conversations of senders whom nobody vouches for any more. Returns who they were. */
  revoke(isTrusted: (who: AuthenticatedSender) => boolean): AuthenticatedSender[] {
    const gone = [...this.#trusted].filter(([, who]) => !isTrusted(who));
    for (const [socket] of gone) socket.close(1008, 'revoked');
    return gone.map(([, who]) => who);
  }

  /** Takes no new connections; ends the open ones. */
  async close(): Promise<void> {
    clearInterval(this.#pings);
    this.#tls?.end();
    for (const socket of this.#sockets.clients) socket.close(1001);
    const closed = new Promise(done => this.#http.close(done));
    this.#http.closeIdleConnections();
    setTimeout(() => {
      for (const socket of this.#sockets.clients) socket.terminate();
      this.#http.closeAllConnections();
    }, 1_000).unref();
    await closed;
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const address = addressOf(request.socket);
    const refuse = (status: number, refusal: Refusal, headers: Record<string, string> = {}) => {
      this.#deps.refused(refusal, { address });
      answerRaw(socket, status, refusal, headers);
    };
    if (!this.#isAllowed(address)) return refuse(403, refusals.addressNotAllowed(address));
    const wait = await this.#secondsToWait(address);
    if (wait > 0) return refuse(429, refusals.rateLimited(wait), { 'Retry-After': String(wait) });
    if (request.headers.origin !== undefined) return refuse(403, refusals.originNotAllowed());
    const { host } = request.headers;
    if (!isOwnHost(host, this.#deps.config())) return refuse(421, refusals.hostNotOwn(host ?? ''));
    if (pathOf(request) !== WIRE_PATH) return refuse(404, refusals.frameMalformed(`the path is not ${WIRE_PATH}`));
    const offered = String(request.headers['sec-websocket-protocol'] ?? '').split(/\s*,\s*/);
    if (!offered.includes(SUBPROTOCOL))
      return refuse(400, refusals.frameMalformed(`the subprotocol is not ${SUBPROTOCOL}`));
    this.#sockets.handleUpgrade(request, socket, head, (accepted: WebSocket & { missed?: number }) => {
      accepted.missed = 0;
      accepted.on('pong', () => {
        accepted.missed = 0;
      });
      accepted.on('close', () => this.#trusted.delete(accepted));
      const from = { address, port: request.socket.remotePort ?? 0 };
      const trusted = (who: AuthenticatedSender) => this.#trusted.set(accepted, who);
      runSession(accepted, from, this.#deps, trusted).catch((error: unknown) => {
        console.error('connection: fault:', error);
        accepted.close(1011);
      });
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const address = addressOf(request.socket);
    const refuse = (status: number, refusal: Refusal) => {
      this.#deps.refused(refusal, { address });
      return sendJson(response, status, refusal);
    };
    if (!this.#isAllowed(address)) return refuse(403, refusals.addressNotAllowed(address));
    const { host } = request.headers;
    if (!isOwnHost(host, this.#deps.config())) return refuse(421, refusals.hostNotOwn(host ?? ''));
    if (request.method === 'POST' && pathOf(request).startsWith('/hooks/'))
      return await this.#hook(request, response, address);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return sendJson(response, 405, { message: 'Only GET is served here.' });
    }
    const path = pathOf(request);
    if (path === '/healthz') return sendJson(response, 200, { status: 'alive' });
    const from = { address, port: request.socket.remotePort ?? 0 };
    const closed = await checkReadAccess(request, from, this.#deps.config());
    if (closed) {
      response.setHeader('WWW-Authenticate', 'Bearer');
      return refuse(401, closed);
    }
    switch (path) {
      case '/readyz': {
        const unready = await this.#deps.unready();
        return sendJson(response, unready.length === 0 ? 200 : 503, {
          status: unready.length === 0 ? 'ready' : 'not ready',
          unready,
        });
      }
      case '/metrics': {
        response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
        response.end(await this.#deps.metrics());
        return;
      }
      default:
        return sendJson(response, 404, {
          message: `Nothing is here. There are ${WIRE_PATH} (WebSocket), /healthz, /readyz and /metrics.`,
        });
    }
  }

  async #hook(request: IncomingMessage, response: ServerResponse, address: string): Promise<void> {
    const { hooks, refused } = this.#deps;
    const [, , name = '', secret, ...rest] = pathOf(request).split('/');
    const known = this.#deps.config().hooks.some(hook => hook.name === name) ? name : 'unknown';
    try {
      const wait = await this.#secondsToWait(address);
      if (wait > 0) throw new Refused(refusals.rateLimited(wait));
      if (rest.length > 0) throw new Refused(refusals.hookUnknown(name));
      const body = await bodyOf(request);
      if (!body) throw new Refused(refusals.hookMalformed(name, `it has more than ${MAX_HOOK_BYTES / 1024} KiB`));
      const answer = await hooks.take({ name, secret, headers: request.headers, body });
      hooks.count(known, 'run' in answer ? 'begun' : 'ignored');
      sendJson(response, 'run' in answer ? 202 : 200, answer);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      hooks.count(known, 'refused');
      refused(error.refusal, { address });
      const status = error.code === 'rate-limited' ? 429 : statusOf(error.refusal);
      // What it has not been read of it is not worth a connection.
      response.setHeader('Connection', 'close');
      sendJson(response, status, error.refusal);
    }
  }

  /** One address can't take all connections. */
  #count(socket: Socket): void {
    const address = addressOf(socket);
    const limit = this.#deps.config().limits.connections_per_address;
    const open = (this.#open.get(address) ?? 0) + 1;
    this.#open.set(address, open);
    socket.on('close', () => {
      const left = (this.#open.get(address) ?? 1) - 1;
      if (left > 0) this.#open.set(address, left);
      else this.#open.delete(address);
    });
    if (open <= limit) return;
    this.#deps.refused(refusals.tooManyConnections(limit), { address });
    socket.destroy();
  }

  #isAllowed(address: string): boolean {
    return this.#allowed.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
  }

  async #secondsToWait(address: string): Promise<number> {
    if (address === this.#exempted?.address && performance.now() < this.#exempted.until) return 0;
    try {
      await this.#limiter.consume(address);
      return 0;
    } catch (error) {
      if (error instanceof Error) throw error;
      return Math.max(1, Math.ceil((error as RateLimiterRes).msBeforeNext / 1000));
    }
  }

  /** A connection that has missed two pings is gone. */
  #pingAll(): void {
    for (const socket of this.#sockets.clients as Set<WebSocket & { missed?: number }>) {
      socket.missed = (socket.missed ?? 0) + 1;
      if (socket.missed > 2) socket.terminate();
      else socket.ping();
    }
  }
}

/** Undefined where it is too large. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_HOOK_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function limiterOf({ rate_limit }: Config): RateLimiterMemory {
  return new RateLimiterMemory({ points: rate_limit.commands, duration: parseDuration(rate_limit.per) / 1000 });
}

/** The peer's address; an IPv4 one in IPv6's clothes without them. Forwarded headers are never believed. */
function addressOf(socket: Socket): string {
  return (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?')[0] ?? '';
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(`${JSON.stringify(body)}\n`);
}

function answerRaw(socket: Duplex, status: number, body: object, headers: Record<string, string>): void {
  const text = `${JSON.stringify(body)}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${text}`);
}
