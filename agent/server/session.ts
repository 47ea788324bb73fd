import { randomBytes } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { AskCommand, Command, Deployment } from '../../protocol/command.ts';
import type { Frame } from '../../protocol/event.ts';
import type { AnswerPart } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import { VERSION } from '../../protocol/version.ts';
import { type Hello, PROTOCOL, type RunsFrame } from '../../protocol/wire.ts';
import { type AuthenticatedSender, type Challenge, openCommand } from '../admission/authenticate.ts';
import { checkQuestion, checkSender, requireOwnRun } from '../admission/check-sender.ts';
import { checkCoverage } from '../admission/coverage.ts';
import { commandFacts, type RefusedCommand, senderFacts } from '../admission/refused-command.ts';
import { checkRunRate } from '../admission/rules.ts';
import type { PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import { checkUndo } from '../runs/undo.ts';
import { receiveCommand, receiveOffer } from './client-frames.ts';
import type { EndpointDeps } from './endpoint.ts';

/** A follower waits while its socket buffers more than this many bytes. */
const MAX_BUFFERED_BYTES = 512 * 1024;

/** The time that a refused client has to close by itself. */
const REFUSED_MS = 2_000;

/** Runs one connection: hello, the offer of one command, the command, its answer, and for a run its events and receipt. */
export async function runSession(
  socket: WebSocket,
  from: PeerAddress,
  deps: EndpointDeps,
  onAuthenticated: (sender: AuthenticatedSender) => void,
): Promise<void> {
  const facts: RefusedCommand = { address: from.address };
  const closed = new AbortController();
  socket.on('close', () => closed.abort());
  // A frame over the limit, or a malformed one: ws has already closed the connection.
  socket.on('error', error => {
    deps.recorder.refused(refusals.frameMalformed(error.message), facts);
    terminateSoon(socket);
  });
  const challenge: Challenge = { text: randomBytes(32).toString('base64'), madeAt: performance.now(), answered: false };
  socket.send(createHello(deps, challenge));
  try {
    const frame = await receiveOffer(socket, closed.signal);
    if (frame === undefined) return;
    const authenticated = await deps.admission.authenticate(frame, challenge, from);
    const { sender, offer } = authenticated;
    onAuthenticated(sender);
    Object.assign(facts, senderFacts(sender));
    const body = await receiveCommand(socket, offer.size, closed.signal);
    if (body === undefined) return;
    const command = openCommand(body, authenticated);
    Object.assign(facts, commandFacts(command));
    await answerCommand(socket, command, { sender, address: from.address, deps, closed: closed.signal });
    socket.close(1000);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    deps.recorder.refused(error.refusal, facts);
    socket.send(JSON.stringify({ type: 'refusal', ...error.refusal }));
    socket.close(1008);
    terminateSoon(socket);
  }
}

function terminateSoon(socket: WebSocket): void {
  setTimeout(() => socket.terminate(), REFUSED_MS).unref();
}

interface SessionContext {
  sender: AuthenticatedSender;
  address: string;
  deps: EndpointDeps;
  closed: AbortSignal;
}

/** Sends the whole answer to a command. Throws `Refused`. */
async function answerCommand(socket: WebSocket, command: Command, context: SessionContext): Promise<void> {
  const { sender, address, deps, closed } = context;
  const { live, admission, runs, store } = deps;
  // `admit` checks the sender of a deployment itself.
  if (command.type !== 'run' && command.type !== 'plan') checkSender(command, sender, live.current);
  switch (command.type) {
    case 'runs': {
      const listed = store.list(command.limit, command.before, sender.entry.name);
      socket.send(JSON.stringify({ type: 'runs', runs: listed.map(run => ({ ...run })) } satisfies RunsFrame));
      return;
    }
    case 'ask':
      return await sendAnswer(socket, command, context);
    case 'cancel': {
      const { trust } = requireOwnRun(command.run, sender.entry.name, store);
      runs.cancel(command.run, { trust, keyId: sender.id, actor: command.origin.actor, address });
      return sendAccepted(socket, { run: command.run, joined: true });
    }
    case 'follow':
      requireOwnRun(command.run, sender.entry.name, store);
      sendAccepted(socket, { run: command.run, joined: true });
      return await sendEvents(socket, command.run, command.after, deps, closed);
    case 'run':
    case 'plan': {
      const admitted = await admission.admit(command, { kind: 'key', sender, address });
      checkUndo(command, run => store.find(run), sender.entry.name);
      // These are checked in the same turn in which the run starts, so that no other run starts in between.
      checkRate(command, sender, deps);
      if (!store.find(command.id)) checkCoverage(command, sender.entry, admitted.sender.rules, store.deployments);
      const accepted = runs.begin(admitted);
      sendAccepted(socket, accepted);
      return await sendEvents(socket, accepted.run, 0, deps, closed);
    }
  }
}

function checkRate(command: Deployment, { entry }: AuthenticatedSender, { store }: EndpointDeps): void {
  if (command.type === 'plan' || command.dry_run || store.find(command.id)) return;
  const refusal = checkRunRate(entry, since => store.countSince(entry.name, since), new Date());
  if (refusal) throw new Refused(refusal);
}

function createHello({ live, keys }: EndpointDeps, challenge: Challenge): string {
  const hello: Hello = {
    protocol: PROTOCOL,
    agent: live.current.agent,
    version: VERSION,
    challenge: challenge.text,
    publicKey: keys.current.public.text,
  };
  const signed = signPayload(PAYLOAD_TYPES.hello, Buffer.from(JSON.stringify(hello)), keys.all);
  return JSON.stringify({ type: 'hello', ...signed });
}

function sendAccepted(socket: WebSocket, accepted: { run: string; joined: boolean }): void {
  socket.send(JSON.stringify({ type: 'accepted', ...accepted }));
}

async function sendEvents(
  socket: WebSocket,
  run: string,
  after: number,
  { runs }: EndpointDeps,
  closed: AbortSignal,
): Promise<void> {
  for await (const frame of runs.follow(run, after, closed)) await sendFrame(socket, frame);
}

/** Answers a question in signed parts, of which the last is marked. Throws `Refused`. */
async function sendAnswer(socket: WebSocket, { id, question, origin }: AskCommand, context: SessionContext) {
  const { sender, address, deps, closed } = context;
  const { live, queries, keys, recorder } = deps;
  checkQuestion(question, sender);
  if (question.about !== 'run' && question.about !== 'deployed')
    recorder.write('asked', {
      about: question.about,
      address,
      key: sender.id,
      trust: sender.entry.name,
      actor: origin.actor,
    });
  const sendPart = (part: number, last: boolean, answer: unknown) => {
    const payload: AnswerPart = { agent: live.current.agent, to: id, part, last, answer };
    const signed = signPayload(PAYLOAD_TYPES.answer, Buffer.from(JSON.stringify(payload)), keys.all);
    return sendFrame(socket, JSON.stringify({ type: 'answer', ...signed }));
  };
  let part = 0;
  let previous: unknown;
  for await (const answer of queries.answer(question, sender)) {
    if (closed.aborted) return;
    if (part > 0) await sendPart(part, false, previous);
    part++;
    previous = answer;
  }
  await sendPart(part, true, previous);
}

function sendFrame(socket: WebSocket, frame: Frame): Promise<void> | undefined {
  if (socket.readyState !== socket.OPEN) return undefined;
  if (socket.bufferedAmount < MAX_BUFFERED_BYTES) {
    socket.send(frame, { binary: false });
    return undefined;
  }
  // An error means that the connection has closed; its close event ends the follower.
  return new Promise(resolve => socket.send(frame, { binary: false }, () => resolve()));
}
