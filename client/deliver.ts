import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from '../protocol/command.ts';
import { type AnyEvent, chainDigest, EMPTY_DIGEST } from '../protocol/event.ts';
import type { PublicKey, SecretKey } from '../protocol/keys.ts';
import { createOffer } from '../protocol/offer.ts';
import { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { audienceOf, createEnvelope, PAYLOAD_TYPES, signPayload, verifySignature } from '../protocol/signature.ts';
import { ReceiptFrame } from '../protocol/wire.ts';
import { type Binding, buildCancel, buildCommand, buildFollow, type CommandTask } from './command.ts';
import { type AgentConnection, ConnectionFailed, connect, parseAgentFrame } from './connect.ts';
import { diagnose } from './diagnose.ts';
import { clientRefusals } from './refusals.ts';

/** The address of an agent, and the key that must sign its hello and receipts. */
export interface AgentAddress {
  url: string;
  key: PublicKey;
  /** Tags that select fleets. */
  tags?: string[];
}

/** Recipient, credentials and time limits of a delivery. */
export interface DeliveryOptions {
  agent: AgentAddress;
  /** The key that signs commands, and the function that requests a GitHub token for an audience; at least one of them. */
  key?: SecretKey | undefined;
  idToken?: ((audience: string) => Promise<string>) | undefined;
  /** Time limits in milliseconds: of the first connection, and of the whole delivery. */
  connectTimeout: number;
  timeout: number;
  /** Logs a line about the state of the connection. */
  log: (line: string) => void;
  onAccepted?: (run: string, agent: string) => void;
  retryMs?: number;
  /** Silence in milliseconds after which a connection is considered lost. */
  silenceMs?: number;
}

const MAX_ATTEMPTS = 10;
const RETRY_MS = 3_000;
/** The first pause before reconnecting to a run, and its upper limit. */
const RECONNECT_MS = 250;
const MAX_RECONNECT_MS = 10_000;

/**
 * Sends a task to an agent and yields the run's events in order, none missing and none twice, also over several
 * connections. Returns the receipt after checking its signature, the number of events and their digest. Throws `Refused`,
 * also the agent's own.
 */
export async function* deliver(
  task: CommandTask | FollowRequest,
  delivery: DeliveryOptions,
): AsyncGenerator<AnyEvent, Receipt> {
  const deadline = AbortSignal.timeout(delivery.timeout);
  const position: StreamPosition = { run: 'follow' in task ? task.follow : undefined, last: 0, digest: EMPTY_DIGEST };
  let connection: AgentConnection | undefined = await connectWithRetries(delivery, deadline);
  for (let pause = RECONNECT_MS; ; pause = Math.min(pause * 2, MAX_RECONNECT_MS)) {
    if (connection) {
      const before = position.last;
      await sendTask(connection, task, position, delivery);
      const receipt = yield* readConnection(connection, position, delivery);
      if (receipt) return receipt;
      if (position.last > before) pause = RECONNECT_MS;
    }
    if (deadline.aborted) throw clientRefusals.timedOut(position.run, delivery.timeout / 60_000);
    delivery.log(
      `connection lost; reconnecting${position.run ? ` to run ${position.run} after event ${position.last}` : ''}`,
    );
    await sleep(pause * (0.75 + Math.random() / 2), undefined, { signal: deadline }).catch(() => undefined);
    connection = await tryConnect(delivery, deadline);
  }
}

/** Follows an existing run from its first event, in place of sending a task. */
export interface FollowRequest {
  follow: string;
  origin: CommandTask['origin'];
}

/** The position in the event stream. `run` is known after the agent has accepted the command. */
interface StreamPosition {
  run: string | undefined;
  last: number;
  digest: string;
}

function sendTask(
  connection: AgentConnection,
  task: CommandTask | FollowRequest,
  position: StreamPosition,
  credentials: Credentials,
): Promise<void> {
  return sendSigned(connection, credentials, binding =>
    position.run === undefined && !('follow' in task)
      ? buildCommand(task, binding)
      : buildFollow(position.run ?? '', position.last, randomUUID(), task.origin, binding),
  );
}

type Credentials = Pick<DeliveryOptions, 'key' | 'idToken'>;

/** Signs an offer of the command that `build` creates for the agent's hello, and sends both. */
export async function sendSigned(
  { hello, send }: AgentConnection,
  { key, idToken }: Credentials,
  build: (binding: Binding) => Command,
): Promise<void> {
  const command = build({ agent: hello.agent, challenge: hello.challenge, now: new Date() });
  const body = Buffer.from(JSON.stringify(command));
  const offer = createOffer(body, hello);
  const signed = key ? signPayload(PAYLOAD_TYPES.offer, offer, key) : createEnvelope(PAYLOAD_TYPES.offer, offer);
  const oidc = await idToken?.(audienceOf(hello.agent, offer));
  await send({ type: 'offer', ...signed, ...(oidc === undefined ? {} : { oidc }) }, body);
}

/** Reads one connection to its end. Returns the receipt, or undefined if the connection ended before it. */
async function* readConnection(
  connection: AgentConnection,
  position: StreamPosition,
  delivery: DeliveryOptions,
): AsyncGenerator<AnyEvent, Receipt | undefined> {
  try {
    for await (const text of connection.frames()) {
      const frame = parseAgentFrame(text);
      switch (frame?.type) {
        case 'accepted':
          if (position.run === undefined) delivery.onAccepted?.(frame.run, connection.hello.agent);
          position.run = frame.run;
          break;
        case 'refusal':
          throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        case 'event':
          // An agent that does not know our position repeats events.
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
    connection.close();
  }
}

/** Returns the receipt if the pinned key signed it and it covers exactly the received events. Throws `Refused` `receipt-mismatch`. */
function verifyReceipt(frame: unknown, position: StreamPosition, agent: AgentAddress): Receipt {
  const proof = verifySignature(ReceiptFrame.parse(frame), PAYLOAD_TYPES.receipt, [agent.key]);
  if (!proof) throw clientRefusals.receiptMismatch('another key than the pinned one signed it');
  const receipt = Receipt.safeParse(JSON.parse(proof.body.toString('utf8')));
  if (!receipt.success) throw clientRefusals.receiptMismatch('it can’t be read');
  const { run, events, events_digest } = receipt.data;
  if (run !== position.run) throw clientRefusals.receiptMismatch(`it is about the run ${run}`);
  if (events !== position.last)
    throw clientRefusals.receiptMismatch(`it counts ${events} events, but ${position.last} were received`);
  if (events_digest !== position.digest) throw clientRefusals.receiptMismatch('the digest of the events differs');
  return receipt.data;
}

/** Tries to connect until the time limit. Then throws a refusal with a diagnosis. */
export async function connectWithRetries(delivery: DeliveryOptions, deadline: AbortSignal): Promise<AgentConnection> {
  const { url, key } = delivery.agent;
  const lastStart = Date.now() + delivery.connectTimeout;
  const retryMs = delivery.retryMs ?? RETRY_MS;
  for (let attempts = 1; ; attempts++) {
    const started = Date.now();
    try {
      return await connect(url, key, deadline, delivery.silenceMs);
    } catch (error) {
      if (!(error instanceof ConnectionFailed)) throw error;
      const pause =
        error.retryAfter === undefined ? Math.max(0, retryMs - (Date.now() - started)) : error.retryAfter * 1000;
      if (attempts >= MAX_ATTEMPTS || Date.now() + pause > lastStart || deadline.aborted) {
        throw clientRefusals.agentUnreachable(url, await diagnose(url, error));
      }
      delivery.log(`attempt ${attempts}: ${error.message}; next attempt in ${Math.ceil(pause / 1000)} s`);
      await sleep(pause, undefined, { signal: deadline }).catch(() => undefined);
    }
  }
}

/** Connects once. Returns undefined if the agent is not reachable now: the run continues without this client. */
async function tryConnect(delivery: DeliveryOptions, deadline: AbortSignal): Promise<AgentConnection | undefined> {
  try {
    return await connect(delivery.agent.url, delivery.agent.key, deadline, delivery.silenceMs);
  } catch (error) {
    if (error instanceof ConnectionFailed) return undefined;
    throw error;
  }
}

/**
 * Follows a run again from its first event without showing it. Returns the checked receipt, or undefined if it does not
 * arrive within `timeoutMs`.
 */
export async function rejoinRun(
  run: string,
  task: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
  timeoutMs: number,
): Promise<Receipt | undefined> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const position: StreamPosition = { run, last: 0, digest: EMPTY_DIGEST };
  while (!deadline.aborted) {
    const connection = await tryConnect(delivery, deadline);
    if (connection) {
      await sendSigned(connection, delivery, binding =>
        buildFollow(run, position.last, randomUUID(), task.origin, binding),
      );
      const events = readConnection(connection, position, delivery);
      let next = await events.next();
      while (!next.done) next = await events.next();
      if (next.value) return next.value;
    }
    await sleep(RECONNECT_MS, undefined, { signal: deadline }).catch(() => undefined);
  }
  return undefined;
}

/**
 * Asks the agent to cancel a run, within `timeoutMs`. Returns true if the agent accepted. Throws the agent's own `Refused`:
 * `run-unknown`, `run-ended`.
 */
export async function cancelRun(
  run: string,
  { origin }: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
  timeoutMs: number,
): Promise<boolean> {
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!deadline.aborted) {
    const connection = await tryConnect(delivery, deadline);
    if (connection) {
      await sendSigned(connection, delivery, binding => buildCancel(run, randomUUID(), origin, binding));
      try {
        for await (const text of connection.frames()) {
          const frame = parseAgentFrame(text);
          if (frame?.type === 'accepted') return true;
          if (frame?.type === 'refusal')
            throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        }
      } finally {
        connection.close();
      }
    }
    await sleep(RECONNECT_MS, undefined, { signal: deadline }).catch(() => undefined);
  }
  return false;
}
