import { randomUUID } from 'node:crypto';
import { Agent } from 'node:https';
import { connect } from 'node:net';
import WebSocket from 'ws';
import type { SecretKey } from '../../protocol/keys.ts';
import { createOffer, splitCommand } from '../../protocol/offer.ts';
import { PAYLOAD_TYPES, type PayloadType, signPayload } from '../../protocol/signature.ts';
import { SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';
import { openRequest } from '../outbound/http-request.ts';

/** The agent to attack, and the keys of the attacker. */
export interface AttackTarget {
  host: string;
  port: number;
  tls: boolean;
  /** The agent's name. */
  agent: string;
  /** A key that the agent trusts for this test and for `chatops-selftest` only, and a key that it does not trust. */
  key: SecretKey;
  stranger: SecretKey;
}

/** The longest wait for an answer, in milliseconds. */
const TIMEOUT_MS = 15_000;

type ReceivedFrame = Record<string, unknown> & { type: string };

/** A connection to the agent's WebSocket that can send what no action would send. */
export class Attacker {
  readonly socket: WebSocket;
  readonly #frames: ReceivedFrame[] = [];
  #closed: string | undefined;
  #wake = () => {};

  constructor(
    { host, port, tls }: AttackTarget,
    options: WebSocket.ClientOptions = {},
    protocol: string[] = [SUBPROTOCOL],
    path = WIRE_PATH,
  ) {
    this.socket = new WebSocket(`${tls ? 'wss' : 'ws'}://${formatHost(host)}:${port}${path}`, protocol, {
      perMessageDeflate: false,
      // The certificate names the host, but the attack uses its address.
      rejectUnauthorized: false,
      ...options,
    });
    this.socket.on('message', data => this.#receive(String(data)));
    this.socket.on('unexpected-response', (_, response) => {
      let text = '';
      response.on('data', chunk => {
        text += String(chunk);
      });
      response.on('end', () => this.#end(codeIn(text) ?? `status ${response.statusCode}`));
    });
    this.socket.on('close', code => this.#end(`closed ${code}`));
    this.socket.on('error', () => this.#end('closed'));
  }

  /** Returns the agent's challenge, or undefined if there is no hello. */
  async challenge(): Promise<string | undefined> {
    const hello = await this.#until(frames => frames.find(({ type }) => type === 'hello'));
    if (!hello) return undefined;
    return (JSON.parse(Buffer.from(String(hello.payload), 'base64').toString()) as { challenge: string }).challenge;
  }

  async hello(): Promise<ReceivedFrame | undefined> {
    return this.#until(frames => frames.find(({ type }) => type === 'hello'));
  }

  /** Returns true if the agent asks for the offered command. */
  async isAsked(): Promise<boolean> {
    const frame = await this.#until(frames => frames.find(({ type }) => type === 'continue' || type === 'refusal'));
    return frame?.type === 'continue';
  }

  /** Returns the outcome: `accepted`, the code of a refusal, or how the connection ended. */
  async answer(): Promise<string> {
    const frame = await this.#until(frames => frames.find(({ type }) => type === 'refusal' || type === 'accepted'));
    const answer = frame ? (frame.type === 'accepted' ? 'accepted' : String(frame.code)) : (this.#closed ?? 'silence');
    this.socket.terminate();
    return answer;
  }

  #receive(text: string): void {
    try {
      this.#frames.push(JSON.parse(text.split('\n', 1)[0] ?? '') as ReceivedFrame);
    } catch {
      // A frame that is not JSON is not an answer.
    }
    this.#wake();
  }

  #end(reason: string): void {
    this.#closed ??= reason;
    this.#wake();
  }

  async #until(find: (frames: ReceivedFrame[]) => ReceivedFrame | undefined): Promise<ReceivedFrame | undefined> {
    const deadline = performance.now() + TIMEOUT_MS;
    for (;;) {
      const found = find(this.#frames);
      if (found || this.#closed !== undefined || performance.now() > deadline) return found;
      await new Promise<void>(wake => {
        const timer = setTimeout(wake, deadline - performance.now());
        this.#wake = () => {
          clearTimeout(timer);
          wake();
        };
      });
    }
  }
}

function codeIn(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { code?: string }).code;
  } catch {
    return undefined;
  }
}

/** Changes to an offer, or to the command that follows it. */
export interface Forgery {
  as?: PayloadType;
  by?: SecretKey;
  challenge?: string;
  /** Changes the offer before it is signed, or its frame afterwards. */
  offer?: (offer: Record<string, unknown>) => Record<string, unknown>;
  frame?: (frame: Record<string, unknown>) => Record<string, unknown>;
  /** Changes the command's bytes after they were offered. */
  command?: (command: Buffer) => Buffer;
}

/** Offers a command on its own connection, and sends it if the agent asks for it. Returns the outcome. */
export async function sendSignedCommand(target: AttackTarget, body: object, forgery: Forgery = {}): Promise<string> {
  const attacker = new Attacker(target);
  const own = await attacker.challenge();
  if (own === undefined) return attacker.answer();
  const challenge = forgery.challenge ?? own;
  const bytes = Buffer.from(JSON.stringify({ ...body, challenge }));
  attacker.socket.send(signOffer(target, bytes, challenge, forgery));
  if (await attacker.isAsked())
    for (const part of splitCommand(forgery.command?.(bytes) ?? bytes)) attacker.socket.send(part);
  return attacker.answer();
}

/** Returns the text of the frame that offers a command. */
export function signOffer(
  { key, agent }: AttackTarget,
  command: Buffer,
  challenge: string,
  { as = PAYLOAD_TYPES.offer, by = key, offer, frame }: Forgery = {},
): string {
  const bytes = createOffer(command, { agent, challenge });
  const changed = offer ? Buffer.from(JSON.stringify(offer(JSON.parse(bytes.toString())))) : bytes;
  const signed = { type: 'offer', ...signPayload(as, changed, by) };
  return JSON.stringify(frame ? frame(signed) : signed);
}

/** Sends something else than an offer. Returns the outcome. */
export async function sendUnsigned(target: AttackTarget, send: (socket: WebSocket) => void): Promise<string> {
  const attacker = new Attacker(target);
  if ((await attacker.hello()) === undefined) return attacker.answer();
  send(attacker.socket);
  return attacker.answer();
}

/** Returns the status of a plain request, or `closed` if the agent closes the connection instead. */
export async function sendHttpRequest(
  { host, port, tls }: AttackTarget,
  path: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<string> {
  try {
    const response = await openRequest({
      ...{
        url: `${tls ? 'https' : 'http'}://${formatHost(host)}:${port}${path}`,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      },
      ...(tls ? { agent: new Agent({ rejectUnauthorized: false }) } : {}),
      ...options,
    });
    response.resume();
    return `status ${response.statusCode}`;
  } catch {
    return 'closed';
  }
}

function formatHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Sends a request head that never ends. Returns `closed` if the agent closes the connection in time. */
export function sendSlowRequest({ host, port }: AttackTarget): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(port, host);
    const writes = setInterval(() => socket.write('X: y\r\n'), 300);
    const timeout = setTimeout(() => end('silence'), TIMEOUT_MS);
    const end = (outcome: string) => {
      clearInterval(writes);
      clearTimeout(timeout);
      socket.destroy();
      resolve(outcome);
    };
    socket.on('error', () => end('closed'));
    socket.on('close', () => end('closed'));
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
  });
}

/** Returns a command for `chatops-selftest` as the action would make it. It changes nothing. */
export function commandFor({ agent }: AttackTarget, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    type: 'run',
    id: randomUUID(),
    agent,
    challenge: '',
    issued_at: new Date().toISOString(),
    origin: {
      ...{
        repository: 'chatops/selftest',
        repository_id: '0',
        ref: 'refs/heads/main',
        sha: '0'.repeat(40),
        event: 'push',
      },
      ...{ workflow_ref: '', run_id: '0', run_attempt: '1', actor: 'selftest', url: '' },
    },
    approval: null,
    intents: [
      { name: 'selftest', document: 1, documents: 1, intent: { action: 'rollout', stack: 'chatops-selftest' } },
    ],
    files: [],
    params: {},
    dry_run: true,
    ...changes,
  };
}
