import { MAX_CLIENT_FRAME_BYTES } from '../../protocol/wire.ts';
import type { Attack } from './attack.ts';
import { Attacker, commandFor, sendHttpRequest, sendSignedCommand, sendSlowRequest, sendUnsigned } from './attacker.ts';

/** Connections that no action would make. */
export const connectionAttacks: readonly Attack[] = [
  {
    name: 'an Origin header of a browser',
    right: ['origin-not-allowed'],
    run: target => new Attacker(target, { headers: { Origin: 'https://example.org' } }).answer(),
  },
  {
    name: 'a foreign host name',
    right: ['host-not-own'],
    run: target => new Attacker(target, { headers: { Host: 'rebound.example.org' } }).answer(),
  },
  {
    name: 'a foreign host name at /metrics',
    right: ['status 421'],
    run: target => sendHttpRequest(target, '/metrics', { headers: { Host: 'rebound.example.org' } }),
  },
  {
    name: 'an unknown path',
    right: ['frame-malformed'],
    run: target => new Attacker(target, {}, undefined, '/v2').answer(),
  },
  {
    name: 'an unknown subprotocol',
    right: ['protocol-unsupported'],
    run: target => new Attacker(target, {}, ['chat']).answer(),
  },
  {
    name: 'an older version of the protocol',
    right: ['protocol-unsupported'],
    run: target => new Attacker(target, {}, ['chatops.v1']).answer(),
  },
  {
    name: 'a POST to a read-only endpoint',
    right: ['status 405'],
    run: target => sendHttpRequest(target, '/metrics', { method: 'POST' }),
  },
  {
    name: 'headers of 64 KiB',
    right: ['status 431', 'closed'],
    run: target => sendHttpRequest(target, '/healthz', { headers: { 'X-Large': 'x'.repeat(65_536) } }),
  },
  { name: 'a request head that never ends', right: ['closed'], run: sendSlowRequest },
  {
    name: 'compression',
    right: ['none'],
    async run(target) {
      const attacker = new Attacker(target, { perMessageDeflate: true });
      await attacker.hello();
      const { extensions } = attacker.socket;
      attacker.socket.terminate();
      return extensions === '' ? 'none' : extensions;
    },
  },
];

/** Frames that no action would send. */
export const frameAttacks: readonly Attack[] = [
  {
    name: 'text that is not JSON',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send('{"type":')),
  },
  {
    name: 'JSON of another shape',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send('[1]')),
  },
  {
    name: 'deep JSON',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send(`${'['.repeat(32_000)}${']'.repeat(32_000)}`)),
  },
  {
    name: 'wide JSON',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send(`[${'{},'.repeat(20_000)}{}]`)),
  },
  {
    name: 'an unknown key',
    right: ['frame-malformed'],
    run: target => sendSignedCommand(target, commandFor(target), { frame: frame => ({ ...frame, sudo: true }) }),
  },
  {
    name: 'a prototype',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send('{"__proto__":{"type":"offer"}}')),
  },
  {
    name: 'a binary frame',
    right: ['frame-malformed'],
    run: target => sendUnsigned(target, socket => socket.send(Buffer.of(0, 1, 2))),
  },
  {
    name: 'text that is not UTF-8',
    right: ['closed 1007'],
    run: target => sendUnsigned(target, socket => socket.send(Buffer.of(0xff, 0xfe), { binary: false })),
  },
  {
    name: 'a frame over the limit',
    right: ['closed 1009'],
    run: target => sendUnsigned(target, socket => socket.send('x'.repeat(MAX_CLIENT_FRAME_BYTES + 1))),
  },
  {
    name: 'endless fragments',
    right: ['closed 1006', 'closed 1008', 'closed'],
    run: target =>
      sendUnsigned(target, socket => {
        for (let n = 0; n < 1_000; n++) socket.send('x', { fin: false });
      }),
  },
  {
    name: 'a second frame before the agent asks for it',
    right: ['closed 1006', 'frame-malformed'],
    run: target =>
      sendUnsigned(target, socket => {
        for (let n = 0; n < 100; n++) socket.send('{}');
      }),
  },
  { name: 'no frame at all', right: ['hello-timeout'], run: target => sendUnsigned(target, () => undefined) },
];
