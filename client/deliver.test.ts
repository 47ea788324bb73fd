import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Command, Deployment } from '../protocol/command.ts';
import { chainDigest, EMPTY_DIGEST, type Event, encodeEvent } from '../protocol/event.ts';
import { generateKey, readPublicKey, readSecretKey } from '../protocol/keys.ts';
import { Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../protocol/signature.ts';
import { onCommand, sendHello } from '../test/stand/peer.ts';
import type { CommandTask } from './command.ts';
import { cancelRun, type DeliveryOptions, deliver, rejoinRun } from './deliver.ts';

const agentKeys = readSecretKey(generateKey().secret);
const jobKeys = readSecretKey(generateKey().secret);
const RUN = '11111111-2222-4333-8444-555555555555';
const origin = {
  repository: 'org/homelab',
  repository_id: '1',
  ref: 'r',
  sha: 'a'.repeat(40),
  event: 'push',
  workflow_ref: '',
  run_id: '1',
  run_attempt: '1',
  actor: 'octocat',
  url: '',
};
const task: CommandTask = {
  type: 'run',
  id: RUN,
  origin,
  approval: null,
  intents: [
    { file: 'a.yaml', name: 'a', document: 1, documents: 1, line: 1, intent: { action: 'rollout', stack: 's' } },
  ],
  files: [],
  params: {},
  dryRun: false,
};
const LINES = ['one', 'two', 'three', 'four'];
const events = LINES.map(
  (text, index): Event => ({ type: 'event', n: index + 1, at: 't', kind: 'note', level: 'info', text }),
);
const digest = events.map(event => encodeEvent(event)).reduce(chainDigest, EMPTY_DIGEST);

type Conversation = (context: {
  socket: WebSocket;
  command: Command;
  round: number;
  send(frame: object | string): void;
}) => void;

/** A peer that speaks the protocol and runs its script on each connection. */
class Peer {
  readonly server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  readonly commands: Command[] = [];
  round = 0;
  hello: (socket: WebSocket) => void;

  constructor(script: Conversation, key = agentKeys) {
    this.hello = socket => sendHello(socket, key, { challenge: `challenge-${this.round}` });
    this.server.on('connection', socket => {
      this.round++;
      this.hello(socket);
      socket.on('error', () => undefined);
      onCommand(socket, jobKeys.public, command => {
        this.commands.push(command);
        const send = (frame: object | string) => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
        script({ socket, command, round: this.round, send });
      });
    });
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
}

const accepted = { type: 'accepted', run: RUN };
function receipt(changes: object = {}, key = agentKeys): object {
  const content = {
    run: RUN,
    agent: 'whitebox',
    outcome: 'succeeded',
    changed: true,
    documents: [],
    events: LINES.length,
    events_digest: digest,
    started_at: '',
    finished_at: '',
    ...changes,
  };
  return { type: 'receipt', ...signPayload(PAYLOAD_TYPES.receipt, Buffer.from(JSON.stringify(content)), key) };
}
const whole: Conversation = ({ send }) => {
  send(accepted);
  for (const event of events) send(encodeEvent(event));
  send(receipt());
};

let peers: Peer[] = [];
async function peer(script: Conversation, key = agentKeys): Promise<Peer> {
  const made = new Peer(script, key);
  peers.push(made);
  await once(made.server, 'listening');
  return made;
}
afterEach(() => {
  for (const { server } of peers) {
    for (const client of server.clients) client.terminate();
    server.close();
  }
  peers = [];
});

const delivery = (url: string, changes: Partial<DeliveryOptions> = {}): DeliveryOptions => ({
  agent: { url, key: agentKeys.public },
  key: jobKeys,
  connectTimeout: 300,
  timeout: 20_000,
  retryMs: 50,
  log: () => undefined,
  ...changes,
});
async function collect(to: DeliveryOptions): Promise<{ texts: unknown[]; outcome: string }> {
  const texts: unknown[] = [];
  const work = deliver(task, to);
  try {
    let next = await work.next();
    for (; !next.done; next = await work.next()) texts.push(next.value.text ?? next.value.kind);
    return { texts, outcome: next.value.outcome };
  } catch (error) {
    if (error instanceof Refused) return { texts, outcome: error.code };
    throw error;
  }
}

describe('a delivery', () => {
  it('signs the command for this agent and this challenge, and yields the events to the proved receipt', async () => {
    const to = await peer(whole);
    expect(await collect(delivery(to.url))).toEqual({ texts: LINES, outcome: 'succeeded' });
    expect(to.commands[0]).toMatchObject({ type: 'run', id: RUN, agent: 'whitebox', challenge: 'challenge-1', origin });
  });

  it('sends a command of many frames whole', async () => {
    const to = await peer(whole);
    const params = { text: 'x'.repeat(300_000) };
    const next = await deliver({ ...task, params }, delivery(to.url)).next();
    expect(next.value).toMatchObject({ kind: 'note' });
    expect(to.commands[0]).toMatchObject({ params });
  });

  it('sends no command to an agent that refuses the offer', async () => {
    const to = await peer(whole);
    const received: unknown[] = [];
    to.server.removeAllListeners('connection');
    to.server.on('connection', socket => {
      sendHello(socket, agentKeys);
      socket.on('message', data => {
        received.push(data);
        socket.send(JSON.stringify({ type: 'refusal', code: 'signature-invalid', message: 'm', remedy: 'r' }));
      });
    });
    expect((await collect(delivery(to.url))).outcome).toBe('signature-invalid');
    expect(received).toHaveLength(1);
  });

  it('throws the agent’s refusal', async () => {
    const to = await peer(({ send }) =>
      send({ type: 'refusal', code: 'stack-not-allowed', message: 'm', remedy: 'r' }),
    );
    expect((await collect(delivery(to.url))).outcome).toBe('stack-not-allowed');
  });

  it('sends nothing to an agent with another key than the pinned one', async () => {
    const to = await peer(whole, readSecretKey(generateKey().secret));
    expect((await collect(delivery(to.url))).outcome).toBe('agent-key-mismatch');
    expect(to.commands).toEqual([]);
  });

  it.each([
    ['another key', receipt({}, readSecretKey(generateKey().secret))],
    ['another run', receipt({ run: '99999999-2222-4333-8444-555555555555' })],
    ['other events', receipt({ events_digest: 'f'.repeat(64) })],
    ['more events', receipt({ events: 9 })],
    ['an unknown outcome', receipt({ outcome: 'splendid' })],
  ])('rejects a receipt with %s', async (_, forged) => {
    const to = await peer(({ send }) => {
      send(accepted);
      for (const event of events) send(encodeEvent(event));
      send(forged);
    });
    expect((await collect(delivery(to.url))).outcome).toBe('receipt-mismatch');
  });

  it('rejects the receipt if an event was changed in transit', async () => {
    const to = await peer(({ send }) => {
      send(accepted);
      for (const event of events) send(String(encodeEvent(event)).replace('two', 'zwei'));
      send(receipt());
    });
    expect((await collect(delivery(to.url))).outcome).toBe('receipt-mismatch');
  });

  it('yields an event of an unknown kind', async () => {
    const unknown = [{ type: 'event', n: 1, at: 't', kind: 'weather', sky: 'blue' }];
    const to = await peer(({ send }) => {
      send(accepted);
      for (const event of unknown) send(event);
      send(receipt({ events: 1, events_digest: chainDigest(EMPTY_DIGEST, JSON.stringify(unknown[0])) }));
    });
    expect(await collect(delivery(to.url))).toEqual({ texts: ['weather'], outcome: 'succeeded' });
  });
});

describe('a delivery over a broken connection', () => {
  it('continues with the next event, none missing and none twice, if the connection breaks during the run', async () => {
    const to = await peer(({ socket, command, round, send }) => {
      send(accepted);
      const after = command.type === 'follow' ? command.after : 0;
      for (const event of events.slice(after, round + after)) send(encodeEvent(event));
      if (after + round >= events.length) send(receipt());
      else setTimeout(() => socket.terminate(), 20);
    });
    expect(await collect(delivery(to.url))).toEqual({ texts: LINES, outcome: 'succeeded' });
    expect(
      to.commands.map(command => (command.type === 'follow' ? `follow ${command.run} ${command.after}` : command.type)),
    ).toEqual(['run', `follow ${RUN} 1`, `follow ${RUN} 3`]);
    expect(new Set(to.commands.map(({ challenge }) => challenge)).size).toBe(3);
  });

  it('sends the same command again under a new challenge if the connection breaks before the answer', async () => {
    const to = await peer(conversation =>
      conversation.round === 1 ? conversation.socket.terminate() : whole(conversation),
    );
    expect((await collect(delivery(to.url))).outcome).toBe('succeeded');
    const [first, second] = to.commands as [Deployment, Deployment];
    expect({ ...second, challenge: first.challenge, issued_at: first.issued_at }).toEqual(first);
    expect(second.challenge).not.toBe(first.challenge);
  });

  it('reconnects to an agent that repeats events or leaves some out', async () => {
    const to = await peer(({ round, send, command }) => {
      send(accepted);
      if (round === 1) {
        for (const index of [0, 1, 1, 0, 3]) send(encodeEvent(events[index] as Event));
        return;
      }
      for (const event of events.slice(command.type === 'follow' ? command.after : 0)) send(encodeEvent(event));
      send(receipt());
    });
    expect(await collect(delivery(to.url))).toEqual({ texts: LINES, outcome: 'succeeded' });
  });

  it.each<[string, Conversation]>([
    ['garbage', ({ send }) => send('{{{')],
    ['a binary frame', ({ socket }) => socket.send(Buffer.from([1, 2, 3]))],
    ['17 MiB', ({ send }) => send('x'.repeat(17 * 1024 * 1024))],
  ])('reconnects after %s', async (_, invalid) => {
    const to = await peer(conversation => (conversation.round === 1 ? invalid(conversation) : whole(conversation)));
    expect((await collect(delivery(to.url))).outcome).toBe('succeeded');
    expect(to.round).toBe(2);
  });

  it('gives up a half-open connection after a silence, but not while the agent pings', async () => {
    const to = await peer(conversation => {
      const { round, send, socket } = conversation;
      if (round > 1) return whole({ ...conversation, send: frame => send(frame) });
      send(accepted);
      send(encodeEvent(events[0] as Event));
      let pings = 0;
      const pinging = setInterval(() => {
        socket.ping();
        if (++pings < 8) return;
        clearInterval(pinging);
        // From here on the connection is half-open: no further event is sent.
        send(encodeEvent(events[1] as Event));
      }, 100);
    });
    expect(await collect(delivery(to.url, { silenceMs: 400 }))).toEqual({ texts: LINES, outcome: 'succeeded' });
    expect(to.commands.map(command => (command.type === 'follow' ? command.after : command.type))).toEqual(['run', 2]);
  });

  it('ends at its time limit if the connection stays broken, and reports that the run continues', async () => {
    const to = await peer(({ send, socket }) => {
      send(accepted);
      setTimeout(() => socket.terminate(), 10);
    });
    expect((await collect(delivery(to.url, { timeout: 900 }))).outcome).toBe('timeout');
  });
});

describe('a delivery without a usable agent', () => {
  it('is tried several times before the diagnosis', async () => {
    const lines: string[] = [];
    const to = await peer(whole);
    const { url } = to;
    to.server.close();
    expect((await collect(delivery(url, { log: line => lines.push(line) }))).outcome).toBe('agent-unreachable');
    expect(lines.length).toBeGreaterThan(1);
  });

  it('is refused as agent-silent if the program there never sends a hello', async () => {
    const to = await peer(whole);
    to.hello = socket => socket.send('hello, I am a chat server');
    expect((await collect(delivery(to.url))).outcome).toBe('agent-silent');
  });

  it('is refused for another version of the protocol', async () => {
    const to = await peer(whole);
    to.hello = socket => sendHello(socket, agentKeys, { protocol: 9 });
    expect((await collect(delivery(to.url))).outcome).toBe('protocol-unsupported');
  });
});

describe('a cancel command', () => {
  it('is signed, names the run, and returns whether the agent accepted it', async () => {
    const to = await peer(({ send }) => send(accepted));
    expect(await cancelRun(RUN, task, delivery(to.url), 2_000)).toBe(true);
    expect(to.commands).toEqual([expect.objectContaining({ type: 'cancel', run: RUN, agent: 'whitebox' })]);
    const other = await peer(({ send }) => send({ type: 'refusal', code: 'run-ended', message: 'm', remedy: 'r' }));
    await expect(cancelRun(RUN, task, delivery(other.url), 2_000)).rejects.toMatchObject({ code: 'run-ended' });
  });

  it('is repeated until the agent accepts it or the time limit is over', async () => {
    const to = await peer(({ round, send, socket }) => (round === 1 ? socket.terminate() : send(accepted)));
    expect(await cancelRun(RUN, task, delivery(to.url), 2_000)).toBe(true);
    expect(await cancelRun(RUN, task, delivery('ws://127.0.0.1:1'), 300)).toBe(false);
  });
});

it('makes the agent wait for a slow reader, so that memory does not grow', async () => {
  const FRAMES = 600;
  const text = 'x'.repeat(64 * 1024);
  let sent = 0;
  let chain = EMPTY_DIGEST;
  const to = await peer(async ({ socket, send }) => {
    send(accepted);
    for (let n = 1; n <= FRAMES; n++) {
      const frame = encodeEvent({ type: 'event', n, at: 't', kind: 'output', document: 1, step: 's', text });
      chain = chainDigest(chain, frame);
      await new Promise(flushed => socket.send(frame, flushed));
      sent = n;
    }
    send(receipt({ events: FRAMES, events_digest: chain }));
  });
  const work = deliver(task, delivery(to.url));
  for (let n = 0; n < 5; n++) await work.next();
  await new Promise(next => setTimeout(next, 300));
  expect(sent).toBeLessThan(FRAMES / 2);
  let next = await work.next();
  while (!next.done) next = await work.next();
  expect(next.value.outcome).toBe('succeeded');
});

it('returns the receipt of a run to a job that follows it again after it was killed', async () => {
  const to = await peer(whole);
  expect((await rejoinRun(RUN, task, delivery(to.url), 2000))?.outcome).toBe('succeeded');
  expect(to.commands[0]).toMatchObject({ type: 'follow', run: RUN, after: 0 });
  expect(readPublicKey(agentKeys.public.text).id).toBe(agentKeys.public.id);
});
