import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket, { type RawData } from 'ws';
import { decodeFrame } from '../protocol/event.ts';
import { type PublicKey, readPublicKey, sameKey } from '../protocol/keys.ts';
import { splitCommand } from '../protocol/offer.ts';
import { Refusal, Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, verifySignature } from '../protocol/signature.ts';
import {
  AgentFrame,
  Hello,
  MAX_FRAME_BYTES,
  type OfferFrame,
  PROTOCOL,
  SUBPROTOCOL,
  WIRE_PATH,
} from '../protocol/wire.ts';
import { clientRefusals } from './refusals.ts';

/** Longest time from the first packet to the hello, in milliseconds. */
const HELLO_MS = 10_000;
/** An agent pings every 20 s. After a silence of this length the connection is half-open and ends. */
const SILENCE_MS = 50_000;
/** Unread frames at which the socket is paused. */
const MAX_UNREAD = 8;

/** A connection to an agent whose hello was signed by the pinned key. */
export interface AgentConnection {
  hello: Hello;
  /** Sends an offer, and the command if the agent asks for it. Otherwise `frames` yields what the agent answered. */
  send(offer: OfferFrame, command: Uint8Array): Promise<void>;
  /** Yields the other frames after the hello until the connection ends. A slow reader makes the agent wait. */
  frames(): AsyncGenerator<string>;
  close(): void;
}

/** Thrown if a connection could not be opened and another attempt may succeed. */
export class ConnectionFailed extends Error {
  override name = 'ConnectionFailed';
  /** HTTP status of an answer that is not a WebSocket, and the seconds that it asks to wait. */
  readonly status: number | undefined;
  readonly retryAfter: number | undefined;

  constructor(message: string, status?: number, retryAfter?: number) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Connects once. Throws {@link ConnectionFailed}, or `Refused` if another attempt would not help. */
export async function connect(
  url: string,
  pinned: PublicKey,
  signal: AbortSignal,
  silenceMs = SILENCE_MS,
): Promise<AgentConnection> {
  const socket = new WebSocket(`${url}${WIRE_PATH}`, SUBPROTOCOL, {
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
    handshakeTimeout: HELLO_MS,
    followRedirects: false,
  });
  const inbox = new Inbox(socket);
  endWhenSilent(socket, silenceMs);
  const abort = () => socket.terminate();
  signal.addEventListener('abort', abort);
  try {
    await waitForOpen(socket);
    const first = await Promise.race([inbox.next(), sleep(HELLO_MS, 'silence' as const, { ref: false })]);
    if (first === undefined) throw new ConnectionFailed('the connection ended before the hello of the agent');
    if (first === 'silence') throw clientRefusals.agentSilent(url);
    const hello = readHello(first, url, pinned);
    return {
      hello,
      async send(offer, command) {
        socket.send(JSON.stringify(offer));
        const answer = await inbox.next();
        if (answer === undefined) return;
        if (!isContinue(answer)) return inbox.putBack(answer);
        for (const part of splitCommand(command)) socket.send(part);
      },
      async *frames() {
        try {
          for (let frame = await inbox.next(); frame !== undefined; frame = await inbox.next()) yield frame;
        } finally {
          signal.removeEventListener('abort', abort);
        }
      },
      close: () => {
        signal.removeEventListener('abort', abort);
        socket.close();
      },
    };
  } catch (error) {
    signal.removeEventListener('abort', abort);
    socket.terminate();
    throw error;
  }
}

function endWhenSilent(socket: WebSocket, silenceMs: number): void {
  const timer = setTimeout(() => {
    // A paused socket receives nothing, so its silence says nothing about the agent.
    if (socket.isPaused) timer.refresh();
    else socket.terminate();
  }, silenceMs);
  const restart = () => timer.refresh();
  socket.on('open', restart);
  socket.on('ping', restart);
  socket.on('message', restart);
  socket.on('close', () => clearTimeout(timer));
}

/** The received frames in order; each is returned once. */
class Inbox {
  readonly #socket: WebSocket;
  readonly #frames: string[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: RawData, isBinary: boolean) => {
      // An agent never sends binary frames, so this peer is not an agent.
      if (isBinary) return socket.terminate();
      this.#frames.push(String(data));
      if (this.#frames.length >= MAX_UNREAD) socket.pause();
      this.#wake?.();
    });
    socket.on('close', () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  /** Makes a frame the next one again. */
  putBack(frame: string): void {
    this.#frames.unshift(frame);
  }

  async next(): Promise<string | undefined> {
    while (this.#frames.length === 0 && !this.#ended) {
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
    const frame = this.#frames.shift();
    if (this.#socket.isPaused && this.#frames.length === 0) this.#socket.resume();
    return frame;
  }
}

async function waitForOpen(socket: WebSocket): Promise<void> {
  const rejected = new Promise<never>((_, fail) => {
    socket.once('unexpected-response', (_request, response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', chunk => {
        body = (body + chunk).slice(0, 4096);
      });
      response.on('end', () =>
        fail(readRejection(response.statusCode ?? 0, body, Number(response.headers['retry-after']))),
      );
    });
    socket.once('error', error => fail(new ConnectionFailed(error.message)));
  });
  rejected.catch(() => undefined);
  // Later errors end the connection, which the reader notices.
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'open'), rejected]);
}

/** Reads an HTTP answer in place of a WebSocket: the agent's own refusal, or the answer of another program. */
function readRejection(status: number, body: string, retryAfter: number): Error {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return new ConnectionFailed(`the answer does not come from an agent (HTTP ${status})`, status);
  }
  const refusal = Refusal.safeParse(value);
  if (!refusal.success) return new ConnectionFailed(`the answer does not come from an agent (HTTP ${status})`, status);
  if (status === 429)
    return new ConnectionFailed(refusal.data.message, status, Number.isFinite(retryAfter) ? retryAfter : 1);
  return new Refused(refusal.data);
}

/** Parses a frame of an agent; undefined if its type is not known or it is not valid. */
export function parseAgentFrame(text: string): AgentFrame | undefined {
  try {
    return AgentFrame.safeParse(decodeFrame(text)).data;
  } catch {
    return undefined;
  }
}

function isContinue(text: string): boolean {
  return parseAgentFrame(text)?.type === 'continue';
}

function readHello(text: string, url: string, pinned: PublicKey): Hello {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw clientRefusals.agentSilent(url);
  }
  const frame = AgentFrame.safeParse(value);
  if (!frame.success || frame.data.type !== 'hello') throw clientRefusals.agentSilent(url);
  const proof = verifySignature(frame.data, PAYLOAD_TYPES.hello, [pinned]);
  if (!proof) throw clientRefusals.agentKeyMismatch(url, pinned.text, claimedKey(frame.data.payload, pinned));
  const hello = Hello.safeParse(JSON.parse(proof.body.toString('utf8')));
  if (!hello.success) throw clientRefusals.agentSilent(url);
  if (hello.data.protocol !== PROTOCOL) throw clientRefusals.protocolUnsupported(url, hello.data.protocol);
  return hello.data;
}

/** The key that a hello names although the pinned key did not sign it. Only for the message. */
function claimedKey(payload: string, pinned: PublicKey): string {
  try {
    const claimed = readPublicKey(Hello.parse(JSON.parse(Buffer.from(payload, 'base64').toString('utf8'))).publicKey);
    return sameKey(claimed, pinned) ? 'the same key, without a valid signature' : claimed.text;
  } catch {
    return 'an unreadable key';
  }
}
