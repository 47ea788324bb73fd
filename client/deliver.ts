import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from '../protocol/command.ts';
import { type AnyEvent, chainDigest, decodeFrame, EMPTY_DIGEST } from '../protocol/event.ts';
import type { PublicKey, SecretKey } from '../protocol/keys.ts';
import { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { audienceOf, envelope, PAYLOAD_TYPES, sign, verify } from '../protocol/signature.ts';
import { AgentFrame, ReceiptFrame } from '../protocol/wire.ts';
import { type Binding, buildCancel, buildCommand, buildFollow, type Task } from './command.ts';
import { connect, type Link, NoConnection } from './connect.ts';
import { diagnose } from './diagnose.ts';
import { refusals } from './refusals.ts';

/** An agent as its caller names it: where it is, and the key that its hello and receipts must bear. */
export interface AgentAddress {
  url: string;
  key: PublicKey;
  /** By which fleets are chosen. */
  tags?: string[];
}

/** To whom, by which right, and with how much patience something is delivered. */
export interface Delivery {
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
const TRY_EVERY = 3_000;
/** How long to wait before coming back to a run, and the most that this grows to. */
const BACK_AFTER = 250;
const BACK_AFTER_MOST = 10_000;

/**
 * Sends a task to an agent and yields the run's events in order, none missing and none twice, over as many connections as
 * it takes. Returns the receipt once it is proved: by the agent's key, the number of events and their digest. Throws
 * `Refused`, also the agent's own.
 */
export async function* deliver(task: Task | Following, delivery: Delivery): AsyncGenerator<AnyEvent, Receipt> {
  const over = AbortSignal.timeout(delivery.timeout);
  const told: Told = { run: 'follow' in task ? task.follow : undefined, last: 0, digest: EMPTY_DIGEST };
  let link: Link | undefined = await firstLink(delivery, over);
  for (let pause = BACK_AFTER; ; pause = Math.min(pause * 2, BACK_AFTER_MOST)) {
    if (link) {
      const before = told.last;
      await send(link, task, told, delivery);
      const receipt = yield* listen(link, told, delivery);
      if (receipt) return receipt;
      if (told.last > before) pause = BACK_AFTER;
    }
    if (over.aborted) throw refusals.timedOut(told.run, delivery.timeout / 60_000);
    delivery.say(`connection lost; coming back${told.run ? ` to run ${told.run} after event ${told.last}` : ''}`);
    await sleep(pause * (0.75 + Math.random() / 2), undefined, { signal: over }).catch(() => undefined);
    link = await again(delivery, over);
  }
}

/** In place of a task: a run that somebody has begun is followed from its first event. */
export interface Following {
  follow: string;
  origin: Task['origin'];
}

/** What has been told so far. `run` is known once the agent has accepted. */
interface Told {
  run: string | undefined;
  last: number;
  digest: string;
}

function send(link: Link, task: Task | Following, told: Told, by: Vouching): Promise<void> {
  return sendSigned(link, by, binding =>
    told.run === undefined && !('follow' in task)
      ? buildCommand(task, binding)
      : buildFollow(told.run ?? '', told.last, randomUUID(), task.origin, binding),
  );
}

type Vouching = Pick<Delivery, 'key' | 'idToken'>;

/** Signs what `build` makes of the agent's hello, and sends it. */
export async function sendSigned(
  { hello, send }: Link,
  { key, idToken }: Vouching,
  build: (binding: Binding) => Command,
): Promise<void> {
  const command = build({ agent: hello.agent, challenge: hello.challenge, now: new Date() });
  const body = Buffer.from(JSON.stringify(command));
  const signed = key ? sign(PAYLOAD_TYPES.command, body, key) : envelope(PAYLOAD_TYPES.command, body);
  const oidc = await idToken?.(audienceOf(hello.agent, PAYLOAD_TYPES.command, body));
  send(JSON.stringify({ type: 'signed', ...signed, ...(oidc === undefined ? {} : { oidc }) }));
}

/** Reads one connection to its end. Returns the receipt, or undefined where the connection ended before it. */
async function* listen(link: Link, told: Told, delivery: Delivery): AsyncGenerator<AnyEvent, Receipt | undefined> {
  try {
    for await (const text of link.frames()) {
      const frame = readFrame(text);
      switch (frame?.type) {
        case 'accepted':
          if (told.run === undefined) delivery.onAccepted?.(frame.run, link.hello.agent);
          told.run = frame.run;
          break;
        case 'refusal':
          throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        case 'event':
          // What was told already comes again where an agent does not know how far we are.
          if (frame.n <= told.last) break;
          if (frame.n !== told.last + 1) return undefined;
          told.last = frame.n;
          told.digest = chainDigest(told.digest, text);
          yield frame;
          break;
        case 'receipt':
          return proveReceipt(frame, told, delivery.agent);
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
export function readFrame(text: string): AgentFrame | undefined {
  try {
    return AgentFrame.safeParse(decodeFrame(text)).data;
  } catch {
    return undefined;
  }
}

/** The receipt, where the pinned key signed it and it speaks of exactly what was told. Throws `Refused` `receipt-mismatch`. */
function proveReceipt(frame: unknown, told: Told, agent: AgentAddress): Receipt {
  const proof = verify(ReceiptFrame.parse(frame), PAYLOAD_TYPES.receipt, [agent.key]);
  if (!proof) throw refusals.receiptMismatch('another key than the pinned one signed it');
  const receipt = Receipt.safeParse(JSON.parse(proof.body.toString('utf8')));
  if (!receipt.success) throw refusals.receiptMismatch('it can’t be read');
  const { run, events, events_digest } = receipt.data;
  if (run !== told.run) throw refusals.receiptMismatch(`it is about the run ${run}`);
  if (events !== told.last) throw refusals.receiptMismatch(`it counts ${events} events, ${told.last} were told`);
  if (events_digest !== told.digest) throw refusals.receiptMismatch('the digest of the events differs');
  return receipt.data;
}

/** Tries until the time for connecting is over; then says why it does not work. */
export async function firstLink(delivery: Delivery, over: AbortSignal): Promise<Link> {
  const { url, key } = delivery.agent;
  const deadline = Date.now() + delivery.connectTimeout;
  const tryEvery = delivery.tryEvery ?? TRY_EVERY;
  for (let tries = 1; ; tries++) {
    const began = Date.now();
    try {
      return await connect(url, key, over, delivery.silence);
    } catch (error) {
      if (!(error instanceof NoConnection)) throw error;
      const pause =
        error.retryAfter === undefined ? Math.max(0, tryEvery - (Date.now() - began)) : error.retryAfter * 1000;
      if (tries >= MAX_TRIES || Date.now() + pause > deadline || over.aborted) {
        throw refusals.agentUnreachable(url, await diagnose(url, error));
      }
      delivery.say(`try ${tries}: ${error.message}; again in ${Math.ceil(pause / 1000)} s`);
      await sleep(pause, undefined, { signal: over }).catch(() => undefined);
    }
  }
}

/** Undefined where the agent can't be reached right now: a run goes on without us. */
async function again(delivery: Delivery, over: AbortSignal): Promise<Link | undefined> {
  try {
    return await connect(delivery.agent.url, delivery.agent.key, over, delivery.silence);
  } catch (error) {
    if (error instanceof NoConnection) return undefined;
    throw error;
  }
}

/**
 * Comes back to a run from its first event, shows nothing, and returns its proved receipt; undefined where that can't be
 * had before `patience` is over (milliseconds).
 */
export async function attach(
  run: string,
  task: Pick<Task, 'origin'>,
  delivery: Delivery,
  patience: number,
): Promise<Receipt | undefined> {
  const over = AbortSignal.timeout(patience);
  const told: Told = { run, last: 0, digest: EMPTY_DIGEST };
  while (!over.aborted) {
    const link = await again(delivery, over);
    if (link) {
      await sendSigned(link, delivery, binding => buildFollow(run, told.last, randomUUID(), task.origin, binding));
      const events = listen(link, told, delivery);
      let next = await events.next();
      while (!next.done) next = await events.next();
      if (next.value) return next.value;
    }
    await sleep(BACK_AFTER, undefined, { signal: over }).catch(() => undefined);
  }
  return undefined;
}

/**
 * Asks the agent to end a run, within `patience` milliseconds. Returns whether it took that. Throws `Refused`, the agent's
 * own: `run-unknown`, `run-ended`.
 */
export async function cancel(
  run: string,
  { origin }: Pick<Task, 'origin'>,
  delivery: Delivery,
  patience: number,
): Promise<boolean> {
  const over = AbortSignal.timeout(patience);
  while (!over.aborted) {
    const link = await again(delivery, over);
    if (link) {
      await sendSigned(link, delivery, binding => buildCancel(run, randomUUID(), origin, binding));
      try {
        for await (const text of link.frames()) {
          const frame = readFrame(text);
          if (frame?.type === 'accepted') return true;
          if (frame?.type === 'refusal')
            throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
        }
      } finally {
        link.close();
      }
    }
    await sleep(BACK_AFTER, undefined, { signal: over }).catch(() => undefined);
  }
  return false;
}
