import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { SUBPROTOCOL, WIRE_PATH } from '../../protocol/wire.ts';

// A device without a key, as a process: node flood.ts KIND PORT ADDRESS. It attacks until it is killed.
const [kind = '', port = '', address = ''] = process.argv.slice(2);
/** Connections at once: more than one address may have. */
const AT_ONCE = 25;
const MIB = 1024 * 1024;

function open(data = ''): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress: address });
  socket.on('error', () => undefined);
  socket.resume();
  return new Promise(done =>
    socket.on('close', () => done(socket)).on('connect', () => socket.write(data, () => done(socket))),
  );
}

/** Opens a WebSocket, and does something with it after the hello. Returns when it has closed. */
function visit(attack: (socket: WebSocket) => void): Promise<void> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${WIRE_PATH}`, SUBPROTOCOL, {
    localAddress: address,
    perMessageDeflate: false,
  });
  return new Promise(done => {
    socket.on('error', () => done()).on('close', () => done());
    socket.once('message', () => attack(socket));
  });
}

/** Opens a WebSocket by hand, then writes these bytes for as long as the agent reads them. */
async function writeFrames(bytes: Buffer): Promise<void> {
  const socket = await open(
    `GET ${WIRE_PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`,
  );
  while (!socket.destroyed) await write(socket, bytes);
}

function write(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise(done => socket.write(bytes, () => done()));
}

/** A client's frame without content: a pong (0x8a), a ping (0x89), the part of a text (0x00). */
const empty = (first: number) =>
  Buffer.concat(Array.from({ length: 10_000 }, () => Buffer.of(first, 0x80, 0, 0, 0, 0)));
const wide = (bytes: number) => `[${'{},'.repeat(bytes / 3 - 2)}{}]`;

const requests =
  (path: string, head = '') =>
  async () => {
    const socket = await open(`GET ${path} HTTP/1.1\r\nHost: ${head || 'localhost'}\r\n\r\n`.repeat(2_000));
    await Promise.race([sleep(200), new Promise(done => socket.once('close', done))]);
    socket.destroy();
  };

/** Attacks by their names: each opens one connection, or a few. */
export const ATTACKS: Record<string, () => Promise<unknown>> = {
  'a wide frame of 16 MiB': () => visit(socket => socket.send(wide(16 * MIB - 8))),
  'a wide frame of 64 KiB': () => visit(socket => socket.send(wide(64 * 1024 - 8))),
  'a deep frame of 64 KiB': () => visit(socket => socket.send('['.repeat(32_000) + ']'.repeat(32_000))),
  'fragments without end': () =>
    visit(socket => {
      for (let n = 0; n < 1_000; n++) socket.send('x', { fin: false });
    }),
  'half a frame, and silence': () => visit(socket => socket.send('x'.repeat(60_000), { fin: false })),
  'pongs without end': () => writeFrames(empty(0x8a)),
  'pings without end': () => writeFrames(empty(0x89)),
  'connections without end': async () => (await open()).destroy(),
  'silent connections': async () => {
    const socket = await open('GET /');
    await new Promise(done => socket.once('close', done));
  },
  'requests without end': requests('/healthz'),
  'metrics without end': requests('/metrics'),
  'tiny pieces of bodies': async () => {
    const socket = await open('POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n');
    const pieces = Buffer.from('1\r\nx\r\n'.repeat(10_000));
    while (!socket.destroyed) await write(socket, pieces);
  },
  'refused requests without end': requests('/metrics', 'elsewhere.example.org'),
};

if (import.meta.main) {
  const attack = ATTACKS[kind];
  if (!attack) throw new Error(`Unknown attack. Known: ${Object.keys(ATTACKS).join(', ')}`);
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (;;) {
        await attack().catch(() => undefined);
        await sleep(5);
      }
    }),
  );
}
