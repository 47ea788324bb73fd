import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from '../protocol/command.ts';
import { type AnyEvent, chainDigest, decodeFrame, EMPTY_DIGEST } from '../protocol/event.ts';
import type { PublicKey, SecretKey } from '../protocol/keys.ts';
import { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { audienceOf, createEnvelope, PAYLOAD_TYPES, signPayload, verifySignature } from '../protocol/signature.ts';
import { AgentFrame, ReceiptFrame } from '../protocol/wire.ts';
import { type Binding, buildCancel, buildCommand, buildFollow, type CommandTask } from './command.ts';
import { type AgentConnection, ConnectionFailed, connect } from './connect.ts';
import { diagnose } from './diagnose.ts';
import { clientRefusals } from './refusals.ts';

/** An agent as its caller names it: where it is, and the key that its hello and receipts must bear. */
export interface AgentAddress {
  url: string;
  key: PublicKey;
  /** By which fleets are chosen. */
  tags?: string[];
}

/** To whom, by which right, and with how much patience something is delivered. */
export interface DeliveryOptions {
  agent: AgentAddress;
  /** What signs commands, and what asks GitHub for a token for an audience; at least one of them. */
  key?: SecretKey | undefined;
  idToken?: ((audience: string) => Promise<string>) | undefined;
  /** Milliseconds: for the first connection, and for the whole. */
  connectTimeout: number;
  timeout: number;
  /** Tells a person what the connection does. */
  say: (line: string) => void;
  onAccepted?: (run: string, agent: string) => void;
  tryEvery?: number;
  /** Milliseconds after which an agent that is not heard is gone. */
  silence?: number;
}

const MAX_TRIES = 10;
const RETRY_MS = 3_000;
/** How long to wait before coming back to a run, and the most that this grows to. */
const RECONNECT_MS = 250;
const MAX_RECONNECT_MS = 10_000;

/**
 * Sends a task to an agent and yields the run's events in order, none missing and none twice, over as many connections as
 * it takes. Returns the receipt once it is proved: by the agent's key, the number of events and their digest. Throws
 * `Refused`, also the agent's own.
 */
export async function* deliver(
  task: CommandTask | FollowRequest,
  delivery: DeliveryOptions,
): AsyncGenerator<AnyEvent, Receipt> {
  const over = AbortSignal.timeout(delivery.timeout);
  const position: StreamPosition = { run: 'follow' in task ? task.follow : undefined, last: 0, digest: EMPTY_DIGEST };
  let link: AgentConnection | undefined = await connectWithRetries(delivery, over);
  for (let pause = RECONNECT_MS; ; pause = Math.min(pause * 2, MAX_RECONNECT_MS)) {
    if (link) {
      const before = position.last;
      await sendTask(link, task, position, delivery);
      const receipt = yield* readConnection(link, position, delivery);
      if (receipt) return receipt;
      if (position.last > before) pause = RECONNECT_MS;
    }
    if (over.aborted) throw clientRefusals.timedOut(position.run, delivery.timeout / 60_000);
    delivery.say(
      `connection lost; coming back${position.run ? ` to run ${position.run} after event ${position.last}` : ''}`,
    );
    await sleep(pause * (0.75 + Math.random() / 2), undefined, { signal: over }).catch(() => undefined);
    link = await tryConnect(delivery, over);
  }
}

/** In place of a task: a run that somebody has begun is followed from its first event. */
export interface FollowRequest {
  follow: string;
  origin: CommandTask['origin'];
}

/** What has been told so far. `run` is known once the agent has accepted. */
interface StreamPosition {
  run: string | undefined;
  last: number;
  digest: string;
}

function sendTask(
  link: AgentConnection,
  task: CommandTask | FollowRequest,
  position: StreamPosition,
  credentials: Credentials,
): Promise<void> {
  return sendSigned(link, credentials, binding =>
    position.run === undefined && !('follow' in task)
      ? buildCommand(task, binding)
      : buildFollow(position.run ?? '', position.last, randomUUID(), task.origin, binding),
  );
}

type Credentials = Pick<DeliveryOptions, 'key' | 'idToken'>;

/** Signs what `build` makes of the agent's hello, and sends it. */
export async function sendSigned(
  { hello, send }: AgentConnection,
  { key, idToken }: Credentials,
  build: (binding: Binding) => Command,
): Promise<void> {
  const command = build({ agent: hello.agent, challenge: hello.challenge, now: new Date() });
  const body = Buffer.from(JSON.stringify(command));
  const signed = key ? signPayload(PAYLOAD_TYPES.command, body, key) : createEnvelope(PAYLOAD_TYPES.command, body);
  const oidc = await idToken?.(audienceOf(hello.agent, PAYLOAD_TYPES.command, body));
  send(JSON.stringify({ type: 'signed', ...signed, ...(oidc === undefined ? {} : { oidc }) }));
}

/** Reads one connection to its end. Returns the receipt, or undefined where the connection ended before it. */
async function* readConnection(
  link: AgentConnection,
  position: StreamPosition,
  delivery: DeliveryOptions,
): AsyncGenerator<AnyEvent, Receipt | undefined> {
  try {
    for await (const text of link.frames()) {
      const frame = parseAgentFrame(text);
      switch (frame?.type) {
        case 'accepted':
          if (position.run === undefined) delivery.onAccepted?.(frame.run, link.hello.agent);
          position.run = frame.run;
          break;
        case 'refusal':
          throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        case 'event':
          // What was told already comes again where an agent does not know how far we are.
          if (frame.n <= position.last) break;
          if (frame.n !== position.last + 1) return undefined;
          position.last = frame.n;
          position.digest = chainDigest(position.digest, text);
          yield frame;
          break;
        case 'receipt':
          return verifyReceipt(frame, position, delivery.agent);
        default:
          return undefined;
      }
    }
    return undefined;
  } finally {
    link.close();
  }
}

/** What the agent sent; undefined where that is nothing this side knows. */
export function parseAgentFrame(text: string): AgentFrame | undefined {
  try {
    return AgentFrame.safeParse(decodeFrame(text)).data;
  } catch {
    return undefined;
  }
}

/** The receipt, where the pinned key signed it and it speaks of exactly what was told. Throws `Refused` `receipt-mismatch`. */
function verifyReceipt(frame: unknown, position: StreamPosition, agent: AgentAddress): Receipt {
  const proof = verifySignature(ReceiptFrame.parse(frame), PAYLOAD_TYPES.receipt, [agent.key]);
  if (!proof) throw clientRefusals.receiptMismatch('another key than the pinned one signed it');
  const receipt = Receipt.safeParse(JSON.parse(proof.body.toString('utf8')));
  if (!receipt.success) throw clientRefusals.receiptMismatch('it can’t be read');
  const { run, events, events_digest } = receipt.data;
  if (run !== position.run) throw clientRefusals.receiptMismatch(`it is about the run ${run}`);
  if (events !== position.last)
    throw clientRefusals.receiptMismatch(`it counts ${events} events, ${position.last} were told`);
  if (events_digest !== position.digest) throw clientRefusals.receiptMismatch('the digest of the events differs');
  return receipt.data;
}

/** Tries until the time for connecting is over; then says why it does not work. */
export async function connectWithRetries(delivery: DeliveryOptions, over: AbortSignal): Promise<AgentConnection> {
  const { url, key } = delivery.agent;
  const deadline = Date.now() + delivery.connectTimeout;
  const tryEvery = delivery.tryEvery ?? RETRY_MS;
  for (let tries = 1; ; tries++) {
    const began = Date.now();
    try {
      return await connect(url, key, over, delivery.silence);
    } catch (error) {
      if (!(error instanceof ConnectionFailed)) throw error;
      const pause =
        error.retryAfter === undefined ? Math.max(0, tryEvery - (Date.now() - began)) : error.retryAfter * 1000;
      if (tries >= MAX_TRIES || Date.now() + pause > deadline || over.aborted) {
        throw clientRefusals.agentUnreachable(url, await diagnose(url, error));
      }
      delivery.say(`try ${tries}: ${error.message}; again in ${Math.ceil(pause / 1000)} s`);
      await sleep(pause, undefined, { signal: over }).catch(() => undefined);
    }
  }
}

/** Undefined where the agent can't be reached right now: a run goes on without us. */
async function tryConnect(delivery: DeliveryOptions, over: AbortSignal): Promise<AgentConnection | undefined> {
  try {
    return await connect(delivery.agent.url, delivery.agent.key, over, delivery.silence);
  } catch (error) {
    if (error instanceof ConnectionFailed) return undefined;
    throw error;
  }
}

/**
 * Comes back to a run from its first event, shows nothing, and returns its proved receipt; undefined where that can't be
 * had before `patience` is over (milliseconds).
 */
export async function rejoinRun(
  run: string,
  task: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
  patience: number,
): Promise<Receipt | undefined> {
  const over = AbortSignal.timeout(patience);
  const position: StreamPosition = { run, last: 0, digest: EMPTY_DIGEST };
  while (!over.aborted) {
    const link = await tryConnect(delivery, over);
    if (link) {
      await sendSigned(link, delivery, binding => buildFollow(run, position.last, randomUUID(), task.origin, binding));
      const events = readConnection(link, position, delivery);
      let next = await events.next();
      while (!next.done) next = await events.next();
      if (next.value) return next.value;
    }
    await sleep(RECONNECT_MS, undefined, { signal: over }).catch(() => undefined);
  }
  return undefined;
}

/**
 * Asks the agent to end a run, within `patience` milliseconds. Returns whether it took that. Throws `Refused`, the agent's
 * own: `run-unknown`, `run-ended`.
 */
export async function cancelRun(
  run: string,
  { origin }: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
  patience: number,
): Promise<boolean> {
  const over = AbortSignal.timeout(patience);
  while (!over.aborted) {
    const link = await tryConnect(delivery, over);
    if (link) {
      await sendSigned(link, delivery, binding => buildCancel(run, randomUUID(), origin, binding));
      try {
        for await (const text of link.frames()) {
          const frame = parseAgentFrame(text);
          if (frame?.type === 'accepted') return true;
          if (frame?.type === 'refusal')
            throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        }
      } finally {
        link.close();
      }
    }
    await sleep(RECONNECT_MS, undefined, { signal: over }).catch(() => undefined);
  }
  return false;
}
