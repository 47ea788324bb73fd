import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { owned, TailscaledDouble, tagged } from './doubles/tailscaled.ts';
import { Host } from './stand/host.ts';
import { Client, command } from './stand/signer.ts';

const CAP = 'example.com/cap/chatops';
let dir: string;
let host: Host;
let tailscaled: TailscaledDouble;
const entry = (tailscale: object) => ({
  tailscale: { socket: tailscaled.socket },
  trust: [
    {
      name: 'homelab',
      key: host.keys.public,
      repository: 'org/homelab',
      tailscale,
      allow: [{ actions: ['rollout', 'scale'], stacks: ['*'], require_labels: ['approved-by-gemini'] }],
    },
  ],
});
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-tailnet-'));
  tailscaled = await new TailscaledDouble(join(dir, 'tailscaled.sock')).start();
  host = new Host({ dir: join(dir, 'host'), repository: 'org/homelab' });
  await host.start(entry({ tags: ['tag:ci'] }));
});
afterAll(async () => {
  await host.stop();
  await tailscaled.stop();
  rmSync(dir, { recursive: true });
});
beforeEach(() => {
  Object.assign(tailscaled, { status: 200, hangs: false, answer: tagged(['tag:ci']) });
});

async function reload(tailscale: object): Promise<void> {
  host.configure(entry(tailscale));
  const before = host.log.length;
  host.child?.kill('SIGHUP');
  while (!host.log.slice(before).includes('configuration')) await new Promise(next => setTimeout(next, 20));
}
async function ask(headers: Record<string, string> = {}, stack = 'any'): Promise<{ answer: string; message: string }> {
  const client = new Client(host.url, { headers });
  await client.send(command([{ action: 'rollout', stack }], { dry_run: true }), host.keys.secret);
  const answer = await client.answer();
  const message = String(client.frames.find(({ type }) => type === 'refusal')?.message ?? '');
  await client.end();
  return { answer, message };
}

describe('a trust entry with tailscale', () => {
  it('asks tailscaled for the address and port of the peer, and accepts a node with the tag', async () => {
    tailscaled.asked.length = 0;
    expect(await ask()).toEqual({ answer: 'accepted', message: '' });
    expect(tailscaled.asked).toEqual([
      {
        path: expect.stringMatching(/^\/localapi\/v0\/whois\?proto=tcp&addr=127\.0\.0\.1%3A\d+$/),
        host: 'local-tailscaled.sock',
      },
    ]);
  });

  it.each<[string, () => void, string, RegExp]>([
    [
      'a node without the tag',
      () => (tailscaled.answer = tagged(['tag:other'])),
      'peer-not-allowed',
      /runner-1\.tail1234\.ts\.net \(tag:other\)/,
    ],
    [
      'a node of a user',
      () => (tailscaled.answer = owned('somebody@example.com')),
      'peer-not-allowed',
      /somebody@example\.com/,
    ],
    ['a peer outside the tailnet', () => (tailscaled.answer = null), 'peer-unknown', /127\.0\.0\.1/],
    [
      'a peer when tailscaled answers with an error',
      () => (tailscaled.status = 500),
      'tailnet-unreachable',
      /answered 500/,
    ],
    [
      'a peer when tailscaled answers with invalid JSON',
      () => (tailscaled.answer = '{"Node":'),
      'tailnet-unreachable',
      /is not understood/,
    ],
    [
      'a peer when tailscaled answers with an unknown shape',
      () => (tailscaled.answer = { Node: 1 }),
      'tailnet-unreachable',
      /is not understood/,
    ],
    [
      'a peer when tailscaled does not answer',
      () => (tailscaled.hangs = true),
      'tailnet-unreachable',
      /no answer within 2 s/,
    ],
  ])('refuses %s', async (_, change, code, pattern) => {
    change();
    const { answer, message } = await ask();
    expect({ answer, messageMatches: pattern.test(message) }, message).toEqual({
      answer: code,
      messageMatches: true,
    });
  });

  it('ignores the headers of a proxy, also from a peer on loopback', async () => {
    tailscaled.answer = null;
    const headers = {
      'Tailscale-User-Login': 'somebody@example.com',
      'X-Forwarded-For': '100.64.0.9',
      Forwarded: 'for=100.64.0.9',
    };
    expect((await ask(headers)).answer).toBe('peer-unknown');
  });

  it('refuses a peer when the socket of tailscaled is gone, and names the socket', async () => {
    await tailscaled.stop();
    expect(await ask()).toEqual({
      answer: 'tailnet-unreachable',
      message: expect.stringContaining(tailscaled.socket),
    });
    await tailscaled.start();
    expect((await ask()).answer).toBe('accepted');
  });

  it('accepts the users that the entry lists, and no tagged node as a user', async () => {
    await reload({ users: ['somebody@example.com'] });
    expect((await ask()).answer).toBe('peer-not-allowed');
    tailscaled.answer = owned('somebody@example.com');
    expect((await ask()).answer).toBe('accepted');
    // `tagged-devices` is the stand-in profile of tagged nodes, not a user.
    await reload({ users: ['tagged-devices'] });
    tailscaled.answer = tagged(['tag:ci']);
    expect((await ask()).answer).toBe('peer-not-allowed');
  });

  it('accepts a peer with the capability, which narrows the rules and never widens them', async () => {
    await reload({ capability: CAP });
    expect((await ask()).answer).toBe('peer-not-allowed');
    const granted = (...values: unknown[]) => {
      tailscaled.answer = tagged(['tag:ci'], { [CAP]: values });
    };
    granted({ stacks: ['media*'], actions: ['rollout'] });
    expect((await ask({}, 'media-1')).answer).toBe('accepted');
    expect((await ask({}, 'vault')).answer).toBe('capability-not-allowed');
    granted({ stacks: ['vault'] }, { actions: ['scale'] });
    expect((await ask({}, 'media-1')).answer).toBe('capability-not-allowed');
    granted({ stack: ['*'] });
    expect((await ask()).answer).toBe('peer-not-allowed');
  });

  it('counts each refusal of a peer, and writes it to the audit log', async () => {
    await reload({ tags: ['tag:ci'] });
    tailscaled.answer = null;
    await ask();
    expect((await host.audit()).at(-1)).toMatchObject({ event: 'refused', code: 'peer-unknown', address: '127.0.0.1' });
    expect(await host.metrics()).toMatch(/chatops_auth_failures_total\{reason="not_allowed"\} [1-9]/);
  });
});
