import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';
import type { Intent } from '../../intents/intent.ts';
import type { Deployment } from '../../protocol/command.ts';
import { decodeFrame } from '../../protocol/event.ts';
import { readSecretKey } from '../../protocol/keys.ts';
import { createOffer, splitCommand } from '../../protocol/offer.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import { type OfferFrame, SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';

export const LABELLED = {
  pull_request: 1,
  head_sha: 'b'.repeat(40),
  merge_sha: 'a'.repeat(40),
  merged_by: 'octocat',
  labels: [{ name: 'approved-by-gemini', by: 'octocat', permission: 'write' as const, at: '', after_last_push: true }],
};

/** Returns a valid command like the action's, with these changes. */
export function command(intents: Intent[], changes: Partial<Deployment> = {}): Deployment {
  return {
    type: 'run',
    id: randomUUID(),
    agent: 'whitebox',
    challenge: '',
    issued_at: new Date().toISOString(),
    origin: {
      repository: 'org/homelab',
      repository_id: '7001',
      ref: 'refs/heads/main',
      sha: 'a'.repeat(40),
      event: 'push',
      workflow_ref: '',
      run_id: '1',
      run_attempt: '1',
      actor: 'octocat',
      url: '',
    },
    approval: LABELLED,
    intents: intents.map((intent, index) => ({ name: 'test', document: index + 1, documents: intents.length, intent })),
    files: [],
    params: {},
    dry_run: false,
    ...changes,
  };
}

type Frame = Record<string, unknown> & { type: string };

/** A bare client, which can send an agent frames that the action never sends. */
export class Client {
  readonly socket: WebSocket;
  readonly frames: Frame[] = [];
  readonly texts: string[] = [];
  closed: number | undefined;
  status: number | undefined;
  headers: Record<string, unknown> = {};
  body = '';
  #wake = () => {};

  constructor(url: string, options: WebSocket.ClientOptions = {}, protocol = SUBPROTOCOL, path = WIRE_PATH) {
    this.socket = new WebSocket(url + path, protocol, options);
    this.socket.on('message', data => {
      this.texts.push(String(data));
      this.frames.push(decodeFrame(String(data)) as Frame);
      this.#wake();
    });
    this.socket.on('close', code => {
      this.closed = code;
      this.#wake();
    });
    this.socket.on('unexpected-response', (_, response) => {
      this.status = response.statusCode;
      this.headers = response.headers;
      response.on('data', chunk => {
        this.body += String(chunk);
      });
      response.on('end', () => {
        this.closed = 0;
        this.#wake();
      });
    });
    this.socket.on('error', () => this.#wake());
  }

  /** Returns the first frame of that type, or undefined if the connection ends before it. */
  async frame(type: string): Promise<Frame | undefined> {
    for (;;) {
      const found = this.frames.find(frame => frame.type === type);
      if (found || this.closed !== undefined) return found;
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
  }

  async challenge(): Promise<string> {
    const hello = await this.frame('hello');
    return JSON.parse(Buffer.from(String(hello?.payload), 'base64').toString()).challenge;
  }

  /** Signs an offer of the body with this connection's challenge, unless the body names one. */
  async offer(
    body: object & { challenge?: string; agent?: string },
    secret: string,
  ): Promise<{ frame: OfferFrame; bytes: Buffer }> {
    const fresh = await this.challenge();
    const challenge = body.challenge || fresh;
    const bytes = Buffer.from(JSON.stringify({ ...body, challenge }));
    const offer = createOffer(bytes, { agent: body.agent ?? 'whitebox', challenge });
    return { frame: { type: 'offer', ...signPayload(PAYLOAD_TYPES.offer, offer, readSecretKey(secret)) }, bytes };
  }

  async send(body: object, secret: string): Promise<void> {
    const { frame, bytes } = await this.offer(body, secret);
    await this.sendOffered(frame, bytes);
  }

  /** Sends an offer, and the bytes of the command if the agent asks for them. */
  async sendOffered(frame: OfferFrame, bytes: Buffer): Promise<void> {
    this.socket.send(JSON.stringify(frame));
    if (await this.frame('continue')) for (const part of splitCommand(bytes)) this.socket.send(part);
  }

  /** Returns the code of the refusal that ends this connection, or `accepted`. */
  async answer(): Promise<string> {
    while (this.closed === undefined && !this.frames.some(({ type }) => type === 'refusal' || type === 'accepted')) {
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
    const frame = this.frames.find(({ type }) => type === 'refusal' || type === 'accepted');
    return frame?.type === 'accepted' ? 'accepted' : String(frame?.code ?? `closed ${this.closed}`);
  }

  /** Returns the payload of the receipt. */
  async receipt(): Promise<Record<string, unknown>> {
    const frame = await this.frame('receipt');
    return JSON.parse(Buffer.from(String(frame?.payload), 'base64').toString());
  }

  async end(): Promise<void> {
    if (this.socket.readyState === WebSocket.CLOSED) return;
    this.socket.terminate();
    await once(this.socket, 'close').catch(() => undefined);
  }
}
