import { describe, expect, it } from 'vitest';
import { keys, metrics, rollout, url, withAgent } from '../../test/stand/guarded.ts';
import { Client, command } from '../../test/stand/signer.ts';

withAgent({ pingMs: 100 });

const connections = async () => Number(/^chatops_connections (\d+)$/m.exec(await metrics())?.[1]);

describe('a follower that does not read', () => {
  it('is dropped, and one that does is not', async () => {
    const deaf = new Client(url());
    const other = new Client(url());
    await other.frame('hello');
    await deaf.send(command([rollout()], { dry_run: true }), keys.secret);
    deaf.socket.pause();
    expect(await connections()).toBe(2);
    await expect.poll(connections).toBe(1);
    expect(other.closed).toBeUndefined();
    await deaf.end();
    await other.end();
  });
});
