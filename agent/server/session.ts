import { randomBytes } from 'node:crypto';
import type { RawData, WebSocket } from 'ws';
import { stackOf } from '../../intents/intent.ts';
import type { Approval, AskCommand, Command, Deployment } from '../../protocol/command.ts';
import type { Frame } from '../../protocol/event.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { AnswerPart } from '../../protocol/question.ts';
import { type Refusal, Refused } from '../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../protocol/signature.ts';
import { VERSION } from '../../protocol/version.ts';
import { FIRST_FRAME_MS, type Hello, PROTOCOL, type RunsFrame, SignedFrame } from '../../protocol/wire.ts';
import { type AdmissionContext, admit, checkQuestion, checkSender } from '../admission/admit.ts';
import { type AuthContext, type AuthenticatedSender, authenticate, type Challenge } from '../admission/authenticate.ts';
import { checkRunRate } from '../admission/rules.ts';
import type { Config } from '../config/load.ts';
import type { Executor, HostSite } from '../executors/executor.ts';
import type { RefusedCommand } from '../observability/audit.ts';
import type { PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import type { RunRegistry } from '../runs/registry.ts';
import { checkUndo } from '../runs/undo.ts';
import { requireOwnRun } from './queries.ts';

/** What a connection needs of its agent. `config` and `judges` are asked anew each time, so that a reload counts at once. */
export interface SessionDeps {
  config: () => Config;
  authContext: () => AuthContext;
  site: () => HostSite;
  /** With which hellos are signed, the current one first. */
  keys: () => readonly SecretKey[];
  runs: RunRegistry;
  executors: Executor[];
  refused: (refusal: Refusal, who: RefusedCommand) => void;
  /** The evidence of a command as GitHub has it, where GitHub confirms what the command says. Throws `Refused`. */
  confirm: (command: Deployment) => Promise<Approval | null>;
  /** What a sender who may ask is told, part by part, as JSON's values. Throws `Refused`. */
  answer: (asked: AskCommand, key: AuthenticatedSender, address: string) => AsyncIterable<unknown>;
  firstFrameMs?: number;
}

/** A socket that holds more than this many bytes makes its follower wait. */
const MAX_BUFFERED_BYTES = 512 * 1024;

/** One connection: hello, one signed command, its answer, and but for a cancel the run's events and receipt. */
export async function runSession(
  socket: WebSocket,
  from: PeerAddress,
  agent: SessionDeps,
  trusted: (who: AuthenticatedSender) => void,
): Promise<void> {
  const who: RefusedCommand = { address: from.address };
  const closed = new AbortController();
  socket.on('close', () => closed.abort());
  // A frame over the limit or one that is no WebSocket frame: ws has ended the connection already.
  socket.on('error', error => agent.refused(refusals.frameMalformed(error.message), who));
  const challenge: Challenge = { text: randomBytes(32).toString('base64'), madeAt: performance.now(), answered: false };
  socket.send(createHello(agent, challenge));
  try {
    const frame = await firstFrame(socket, closed.signal, agent.firstFrameMs ?? FIRST_FRAME_MS);
    if (frame === undefined) return;
    const { command, key } = await authenticate(frame, agent.authContext(), challenge, from);
    trusted(key);
    Object.assign(who, commandFacts(command, key));
    if (command.type === 'runs') {
      checkSender(command, key, agent.config());
      const runs = agent.runs.store.list(command.limit, command.before, key.entry.name);
      socket.send(JSON.stringify({ type: 'runs', runs: runs.map(run => ({ ...run })) } satisfies RunsFrame));
      return socket.close(1000);
    }
    if (command.type === 'ask') {
      checkSender(command, key, agent.config());
      checkQuestion(command.question, key);
      await sendAnswer(socket, agent.answer(command, key, from.address), {
        agent,
        to: command.id,
        closed: closed.signal,
      });
      return socket.close(1000);
    }
    const answer = await startCommand(command, key, from.address, agent);
    socket.send(JSON.stringify({ type: 'accepted', ...answer.accepted }));
    if (answer.after !== undefined) {
      for await (const text of agent.runs.follow(answer.accepted.run, answer.after, closed.signal)) {
        await sendFrame(socket, text);
      }
    }
    socket.close(1000);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    agent.refused(error.refusal, who);
    socket.send(JSON.stringify({ type: 'refusal', ...error.refusal }));
    socket.close(1008);
  }
}

async function startCommand(
  command: Exclude<Command, { type: 'runs' | 'ask' }>,
  key: AuthenticatedSender,
  address: string,
  agent: SessionDeps,
): Promise<{ accepted: { run: string; joined: boolean }; after?: number }> {
  switch (command.type) {
    case 'run':
    case 'plan': {
      const guard: AdmissionContext = { config: agent.config(), executors: agent.executors, site: agent.site() };
      const admitted = await admit(command, key, address, guard);
      if (key.entry.confirm_with_github && command.type === 'run' && !command.dry_run) {
        // What GitHub has is judged again; what was sent stays what the run is known by.
        await admit({ ...command, approval: await agent.confirm(command) }, key, address, guard);
      }
      checkUndo(command, run => agent.runs.store.find(run), key.entry.name);
      // In the same turn as its beginning, so that none slips through beside it.
      checkRate(command, key, agent.runs);
      return { accepted: agent.runs.begin(admitted), after: 0 };
    }
    case 'follow':
    case 'cancel': {
      checkSender(command, key, agent.config());
      const run = requireOwnRun(command.run, key.entry.name, agent.runs);
      const accepted = { run: command.run, joined: true };
      if (command.type === 'follow') return { accepted, after: command.after };
      agent.runs.cancel(command.run, { trust: run.trust, keyId: key.id, actor: command.origin.actor, address });
      return { accepted };
    }
  }
}

function checkRate(command: Deployment, { entry }: AuthenticatedSender, runs: RunRegistry): void {
  if (command.type === 'plan' || command.dry_run || runs.store.find(command.id)) return;
  const over = checkRunRate(entry, since => runs.store.countSince(entry.name, since), new Date());
  if (over) throw new Refused(over);
}

/** The first frame, read; undefined where the connection ended without one. Throws `Refused`. */
function firstFrame(socket: WebSocket, closed: AbortSignal, timeout: number): Promise<SignedFrame | undefined> {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Refused(refusals.helloTimeout(timeout / 1000))), timeout);
    closed.addEventListener('abort', () => {
      clearTimeout(timer);
      done(undefined);
    });
    socket.once('message', (data: RawData, isBinary: boolean) => {
      clearTimeout(timer);
      // Whoever says more than one thing is not an action.
      socket.on('message', () => socket.close(1008));
      if (isBinary) return fail(new Refused(refusals.frameMalformed('it is binary')));
      try {
        done(parseSignedFrame(String(data)));
      } catch (error) {
        fail(error);
      }
    });
  });
}

/** What a client sent, read. Throws `Refused`. */
export function parseSignedFrame(text: string): SignedFrame {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refused(refusals.frameMalformed('it is not JSON'));
  }
  const result = SignedFrame.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.frameMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}`));
}

function createHello(agent: SessionDeps, challenge: Challenge): string {
  const said: Hello = {
    protocol: PROTOCOL,
    agent: agent.config().agent,
    version: VERSION,
    challenge: challenge.text,
    publicKey: agent.keys()[0]?.public.text ?? '',
  };
  return JSON.stringify({
    type: 'hello',
    ...signPayload(PAYLOAD_TYPES.hello, Buffer.from(JSON.stringify(said)), agent.keys()),
  });
}

/** Sends an answer, each part signed; the last one says that it is. */
async function sendAnswer(
  socket: WebSocket,
  answers: AsyncIterable<unknown>,
  { agent, to, closed }: { agent: SessionDeps; to: string; closed: AbortSignal },
): Promise<void> {
  const say = (part: number, last: boolean, answer: unknown) => {
    const said: AnswerPart = { agent: agent.config().agent, to, part, last, answer };
    const signed = signPayload(PAYLOAD_TYPES.answer, Buffer.from(JSON.stringify(said)), agent.keys());
    return sendFrame(socket, JSON.stringify({ type: 'answer', ...signed }));
  };
  let part = 0;
  let held: unknown;
  for await (const answer of answers) {
    if (closed.aborted) return;
    if (part > 0) await say(part, false, held);
    part++;
    held = answer;
  }
  await say(part, true, held);
}

function sendFrame(socket: WebSocket, frame: Frame): Promise<void> | undefined {
  if (socket.readyState !== socket.OPEN) return undefined;
  if (socket.bufferedAmount < MAX_BUFFERED_BYTES) {
    socket.send(frame, { binary: false });
    return undefined;
  }
  // An error means that the connection is gone; its close event ends the follower.
  return new Promise(done => socket.send(frame, { binary: false }, () => done()));
}

function commandFacts(command: Command, key: AuthenticatedSender): Omit<RefusedCommand, 'address'> {
  const intents = 'intents' in command ? command.intents : [];
  return {
    keyId: key.id,
    trust: key.entry.name,
    run: command.id,
    repository: command.origin.repository,
    intents: intents.map(({ name, intent }) => ({ intent: name, action: intent.action, stack: stackOf(intent) })),
  };
}
