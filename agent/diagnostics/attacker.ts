import { randomUUID } from 'node:crypto';
import { Agent } from 'node:https';
import { connect } from 'node:net';
import WebSocket from 'ws';
import type { SecretKey } from '../../protocol/keys.ts';
import { PAYLOAD_TYPES, type PayloadType, signPayload } from '../../protocol/signature.ts';
import { SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';
import { openRequest } from '../outbound/http-request.ts';

/** The agent that is attacked, and who attacks. */
export interface AttackTarget {
  host: string;
  port: number;
  tls: boolean;
  /** The agent's name. */
  agent: string;
  /** A key that the agent trusts for this test, for `chatops-selftest` and nothing else; and one that nobody trusts. */
  key: SecretKey;
  stranger: SecretKey;
}

/** For how long an answer is waited for, in milliseconds. */
const PATIENCE = 15_000;

type ReceivedFrame = Record<string, unknown> & { type: string };

/** One connection to the agent's WebSocket that says what no action would. */
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
      // It is this host's own agent, asked by its address.
      rejectUnauthorized: false,
      ...options,
    });
    this.socket.on('message', data => this.#took(String(data)));
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

  /** The agent's challenge, or undefined where it says none. */
  async challenge(): Promise<string | undefined> {
    const hello = await this.#until(frames => frames.find(({ type }) => type === 'hello'));
    if (!hello) return undefined;
    return (JSON.parse(Buffer.from(String(hello.payload), 'base64').toString()) as { challenge: string }).challenge;
  }

  async hello(): Promise<ReceivedFrame | undefined> {
    return this.#until(frames => frames.find(({ type }) => type === 'hello'));
  }

  /** What became of it: `accepted`, the code of a refusal, or how the connection ended. */
  async answer(): Promise<string> {
    const frame = await this.#until(frames => frames.find(({ type }) => type === 'refusal' || type === 'accepted'));
    const answer = frame ? (frame.type === 'accepted' ? 'accepted' : String(frame.code)) : (this.#closed ?? 'silence');
    this.socket.terminate();
    return answer;
  }

  #took(text: string): void {
    try {
      this.#frames.push(JSON.parse(text.split('\n', 1)[0] ?? '') as ReceivedFrame);
    } catch {
      // Not ours to judge.
    }
    this.#wake();
  }

  #end(how: string): void {
    this.#closed ??= how;
    this.#wake();
  }

  async #until(find: (frames: ReceivedFrame[]) => ReceivedFrame | undefined): Promise<ReceivedFrame | undefined> {
    const deadline = performance.now() + PATIENCE;
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

/** What a signed frame is made of; everything but the challenge may be changed. */
export interface Forgery {
  as?: PayloadType;
  by?: SecretKey;
  challenge?: string;
  frame?: (frame: Record<string, unknown>) => Record<string, unknown>;
}

/** Sends a command that is signed as said, on a connection of its own, and returns what became of it. */
export async function sendSignedCommand(ground: AttackTarget, body: object, forgery: Forgery = {}): Promise<string> {
  const attacker = new Attacker(ground);
  const challenge = await attacker.challenge();
  if (challenge === undefined) return attacker.answer();
  attacker.socket.send(signFrame(ground, { ...body, challenge: forgery.challenge ?? challenge }, forgery));
  return attacker.answer();
}

/** The text of a signed frame. */
export function signFrame(
  { key }: AttackTarget,
  body: object,
  { as = PAYLOAD_TYPES.command, by = key, frame }: Forgery = {},
): string {
  const signed = { type: 'signed', ...signPayload(as, Buffer.from(JSON.stringify(body)), by) };
  return JSON.stringify(frame ? frame(signed) : signed);
}

/** Sends what is no signed frame. */
export async function sendUnsigned(ground: AttackTarget, say: (socket: WebSocket) => void): Promise<string> {
  const attacker = new Attacker(ground);
  if ((await attacker.hello()) === undefined) return attacker.answer();
  say(attacker.socket);
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
        signal: AbortSignal.timeout(PATIENCE),
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

/** A request whose head never ends: `closed` where the agent ends it in time. */
export function sendSlowRequest({ host, port }: AttackTarget): Promise<string> {
  return new Promise(done => {
    const socket = connect(port, host);
    const feeding = setInterval(() => socket.write('X: y\r\n'), 300);
    const patience = setTimeout(() => end('silence'), PATIENCE);
    const end = (how: string) => {
      clearInterval(feeding);
      clearTimeout(patience);
      socket.destroy();
      done(how);
    };
    socket.on('error', () => end('closed'));
    socket.on('close', () => end('closed'));
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
  });
}

/** A command for `chatops-selftest`, as the action would make it, that changes nothing. */
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
