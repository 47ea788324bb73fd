import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { beforeEach, describe, expect, it } from 'vitest';
import { generateKey } from '../../protocol/keys.ts';
import { Live } from '../config/live.ts';
import { Config } from '../config/load.ts';
import { ConnectionLimits } from './connection-limits.ts';

const config = Config.parse({
  agent: 'whitebox',
  limits: { connections: 8, connections_per_address: 3 },
  trust: [
    { name: 'x', key: generateKey().public, repository: 'o/r', allow: [{ actions: ['rollout'], stacks: ['*'] }] },
  ],
});
let refused: string[];
let limits: ConnectionLimits;
let port = 1;
beforeEach(() => {
  refused = [];
  limits = new ConnectionLimits(new Live(() => config), {
    refused: ({ code }, { address }) => refused.push(`${code} ${address}`),
  });
});

class SocketDouble extends EventEmitter {
  readonly remotePort = port++;
  destroyed = false;
  readonly remoteAddress: string;
  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }
  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}
function open(address: string, { authenticated = false } = {}): SocketDouble {
  const socket = new SocketDouble(address);
  limits.track(socket as unknown as Socket);
  if (authenticated) limits.authenticated({ address, port: socket.remotePort });
  return socket;
}
const left = (sockets: SocketDouble[]) => sockets.map(({ destroyed }) => (destroyed ? '-' : '+')).join('');

describe('the places of connections', () => {
  it('are left to the newest connections of an address, and to those with an authenticated sender', () => {
    const kept = open('100.64.0.1', { authenticated: true });
    const others = Array.from({ length: 4 }, () => open('100.64.0.1'));
    expect(left([kept, ...others])).toBe('+--++');
    expect(refused).toEqual(['too-many-connections 100.64.0.1', 'too-many-connections 100.64.0.1']);
  });

  it('are refused to a new connection of an address whose places all have authenticated senders', () => {
    const kept = Array.from({ length: 3 }, () => open('100.64.0.1', { authenticated: true }));
    expect(left([...kept, open('100.64.0.1')])).toBe('+++-');
  });

  it('are at most half without an authenticated sender: the address with most of them loses its oldest', () => {
    const single = open('100.64.0.1');
    const many = Array.from({ length: 3 }, () => open('100.64.0.2'));
    const newest = open('100.64.0.3');
    expect(left([single, ...many, newest])).toBe('+-+++');
    expect(refused).toEqual(['too-many-connections 100.64.0.2']);
  });

  it('are kept by authenticated senders when all are taken', () => {
    const kept = Array.from({ length: 8 }, (_, n) => open(`100.64.1.${n}`, { authenticated: true }));
    const late = open('100.64.0.9');
    expect(left([...kept, late])).toBe('++++++++-');
    kept[0]?.destroy();
    expect(left([open('100.64.0.9')])).toBe('+');
  });

  it('are closed to an address that was excluded, without its authenticated senders', () => {
    const sender = open('100.64.0.1', { authenticated: true });
    const before = open('100.64.0.1');
    const other = open('100.64.0.2');
    limits.exclude('100.64.0.1');
    expect(left([sender, before, other, open('100.64.0.1'), open('100.64.0.2')])).toBe('+-+-+');
    expect(refused).toEqual(['rate-limited 100.64.0.1']);
  });
});
