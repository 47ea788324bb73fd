import { describe, expect, it } from 'vitest';
import { Refused } from '../../protocol/refusal.ts';
import type { identifyPeer, PeerAddress } from '../outbound/tailscale.ts';
import { refusals } from '../refusals.ts';
import { PeerAccess } from './peer-access.ts';

const RULES = { tags: ['tag:prometheus'] };
const SOCKET = '/run/tailscaled.sock';

/** Peers of 100.64.0.x are accepted, and all others are unknown. */
function start() {
  const asked: string[] = [];
  const clock = { time: 0 };
  const identify: typeof identifyPeer = async (_, { address, port }) => {
    asked.push(`${address} ${port}`);
    await undefined;
    if (!address.startsWith('100.64.0.')) throw new Refused(refusals.peerUnknown(address));
    return { node: 'prometheus' };
  };
  const peers = new PeerAccess(identify, () => clock.time);
  const check = ({ address, port = 1 }: Partial<PeerAddress> & { address: string }, rules = RULES) =>
    peers.check(SOCKET, { address, port }, rules);
  return { asked, clock, check };
}

describe('the identity of a reader in the tailnet', () => {
  it('is asked for once a second, also for requests at the same time and from other ports', async () => {
    const { asked, clock, check } = start();
    const address = '100.64.0.7';
    expect(await Promise.all([1, 2, 3].map(port => check({ address, port })))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    clock.time = 999;
    await check({ address, port: 4 });
    expect(asked).toEqual(['100.64.0.7 1']);
    clock.time = 1_000;
    await check({ address, port: 5 });
    expect(asked).toEqual(['100.64.0.7 1', '100.64.0.7 5']);
  });

  it('is kept too if it is refused, and never for another address', async () => {
    const { asked, check } = start();
    for (let count = 0; count < 3; count++) {
      expect(await check({ address: '100.99.0.1' })).toMatchObject({ code: 'peer-unknown' });
      expect(await check({ address: '100.64.0.1' })).toBeUndefined();
    }
    expect(asked).toHaveLength(2);
  });

  it.each(['127.0.0.1', '127.8.8.8', '::1'])(
    'is asked for each port of %s: a proxy can stand behind it',
    async address => {
      const { asked, check } = start();
      for (const port of [1, 2, 1]) await check({ address, port });
      expect(asked).toEqual([`${address} 1`, `${address} 2`]);
    },
  );

  it('is asked for again when the rules have changed', async () => {
    const { asked, check } = start();
    await check({ address: '100.64.0.1' });
    await check({ address: '100.64.0.1' }, { tags: ['tag:other'] });
    expect(asked).toHaveLength(2);
  });

  it('is kept for 256 addresses', async () => {
    const { asked, check } = start();
    const addresses = Array.from({ length: 300 }, (_, number) => `100.64.${number % 2}.${number}`);
    for (const address of addresses) await check({ address });
    asked.length = 0;
    for (const address of addresses.slice(-256)) await check({ address });
    expect(asked).toEqual([]);
    for (const address of addresses.slice(0, 44)) await check({ address });
    expect(asked).toHaveLength(44);
  });
});
