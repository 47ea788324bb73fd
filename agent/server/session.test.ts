import { describe, expect, it } from 'vitest';
import { keys, metrics, rollout, url, withAgent } from '../../test/stand/guarded.ts';
import { Client, command } from '../../test/stand/signer.ts';

withAgent({ pingMs: 1_000 });

const connections = async () => Number(/^chatops_connections (\d+)$/m.exec(await metrics())?.[1]);

describe('a session', () => {
  it('is dropped if its follower does not read, and kept if it does', async () => {
    const stalled = new Client(url());
    const other = new Client(url());
    await other.frame('hello');
    await stalled.send(command([rollout()], { dry_run: true }), keys.secret);
    stalled.socket.pause();
    expect(await connections()).toBe(2);
    await expect.poll(connections).toBe(1);
    expect(other.closed).toBeUndefined();
    await stalled.end();
    await other.end();
  });
});
