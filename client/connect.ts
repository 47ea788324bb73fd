import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket, { type RawData } from 'ws';
import { type PublicKey, readPublicKey, sameKey } from '../protocol/keys.ts';
import { Refusal, Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, verifySignature } from '../protocol/signature.ts';
import { AgentFrame, Hello, MAX_FRAME_BYTES, PROTOCOL, SUBPROTOCOL, WIRE_PATH } from '../protocol/wire.ts';
import { clientRefusals } from './refusals.ts';

/** How long an agent may take from the first packet to its hello, in milliseconds. */
const HELLO_MS = 10_000;
/** An agent pings every 20 s. One that has not been heard for so long is gone, though nobody has said so (half-open). */
const SILENCE_MS = 50_000;
/** Frames that wait for their reader before the socket is asked to send no more. */
const ENOUGH_WAITING = 8;

/** A connection whose agent has said a hello that its pinned key signed. */
export interface AgentConnection {
  hello: Hello;
  send(text: string): void;
  /** Frames after the hello. Ends when the connection does; a slow reader makes the agent wait. */
  frames(): AsyncGenerator<string>;
  close(): void;
}

/** The connection did not come about, and another try may help. */
export class ConnectionFailed extends Error {
  override name = 'ConnectionFailed';
  /** HTTP status of what answered instead, and the seconds it asks to wait. */
  readonly status: number | undefined;
  readonly retryAfter: number | undefined;

  constructor(message: string, status?: number, retryAfter?: number) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Connects once. Throws {@link ConnectionFailed}, or `Refused` where trying again is no use. */
export async function connect(
  url: string,
  pinned: PublicKey,
  signal: AbortSignal,
  silence = SILENCE_MS,
): Promise<AgentConnection> {
  const socket = new WebSocket(`${url}${WIRE_PATH}`, SUBPROTOCOL, {
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
    handshakeTimeout: HELLO_MS,
    followRedirects: false,
  });
  const inbox = new Inbox(socket);
  endWhenSilent(socket, silence);
  const abort = () => socket.terminate();
  signal.addEventListener('abort', abort);
  try {
    await waitForOpen(socket);
    const first = await Promise.race([inbox.next(), sleep(HELLO_MS, 'silence' as const, { ref: false })]);
    if (first === undefined) throw new ConnectionFailed('the connection ended before the agent said hello');
    if (first === 'silence') throw clientRefusals.agentSilent(url);
    const hello = readHello(first, url, pinned);
    return {
      hello,
      send: text => socket.send(text),
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

function endWhenSilent(socket: WebSocket, silence: number): void {
  const timer = setTimeout(() => {
    // Who does not listen right now hears nothing.
    if (socket.isPaused) timer.refresh();
    else socket.terminate();
  }, silence);
  const heard = () => timer.refresh();
  socket.on('open', heard);
  socket.on('ping', heard);
  socket.on('message', heard);
  socket.on('close', () => clearTimeout(timer));
}

/** Frames in order of arrival, each taken once. */
class Inbox {
  readonly #socket: WebSocket;
  readonly #frames: string[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: RawData, isBinary: boolean) => {
      // An agent never sends binary frames; what does is not one.
      if (isBinary) return socket.terminate();
      this.#frames.push(String(data));
      if (this.#frames.length >= ENOUGH_WAITING) socket.pause();
      this.#wake?.();
    });
    socket.on('close', () => {
      this.#ended = true;
      this.#wake?.();
    });
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
  const answered = new Promise<never>((_, fail) => {
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
  answered.catch(() => undefined);
  // Later troubles end the connection, which the reader sees.
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'open'), answered]);
}

/** An HTTP answer in place of a WebSocket: the agent's own refusal, or somebody else at that port. */
function readRejection(status: number, body: string, retryAfter: number): Error {
  let refusal: unknown;
  try {
    refusal = JSON.parse(body);
  } catch {
    return new ConnectionFailed(`something else than an agent answers there (HTTP ${status})`, status);
  }
  const read = Refusal.safeParse(refusal);
  if (!read.success) return new ConnectionFailed(`something else than an agent answers there (HTTP ${status})`, status);
  if (status === 429)
    return new ConnectionFailed(read.data.message, status, Number.isFinite(retryAfter) ? retryAfter : 1);
  return new Refused(read.data);
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

/** The key that a hello names though the pinned one did not sign it: for the message only. */
function claimedKey(payload: string, pinned: PublicKey): string {
  try {
    const claimed = readPublicKey(Hello.parse(JSON.parse(Buffer.from(payload, 'base64').toString('utf8'))).publicKey);
    return sameKey(claimed, pinned) ? 'it claims the same one, but can’t sign with it' : claimed.text;
  } catch {
    return 'unreadable';
  }
}
