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
async function ask(headers: Record<string, string> = {}, stack = 'any'): Promise<[string, string]> {
  const client = new Client(host.url, { headers });
  await client.send(command([{ action: 'rollout', stack }], { dry_run: true }), host.keys.secret);
  const answer = await client.answer();
  const message = String(client.frames.find(({ type }) => type === 'refusal')?.message ?? '');
  await client.end();
  return [answer, message];
}

describe('an entry that asks the tailnet', () => {
  it('asks of the peer’s own address and port, and takes whom it names', async () => {
    tailscaled.asked.length = 0;
    expect(await ask()).toEqual(['accepted', '']);
    expect(tailscaled.asked).toEqual([
      {
        path: expect.stringMatching(/^\/localapi\/v0\/whois\?proto=tcp&addr=127\.0\.0\.1%3A\d+$/),
        host: 'local-tailscaled.sock',
      },
    ]);
  });

  it.each<[string, () => void, string, RegExp]>([
    [
      'without the tag',
      () => (tailscaled.answer = tagged(['tag:other'])),
      'peer-not-allowed',
      /runner-1\.tail1234\.ts\.net \(tag:other\)/,
    ],
    [
      'of a user',
      () => (tailscaled.answer = owned('somebody@example.com')),
      'peer-not-allowed',
      /somebody@example\.com/,
    ],
    ['that is none', () => (tailscaled.answer = null), 'peer-unknown', /127\.0\.0\.1/],
    ['where tailscaled answers with an error', () => (tailscaled.status = 500), 'tailnet-unreachable', /answered 500/],
    [
      'where it answers with nonsense',
      () => (tailscaled.answer = '{"Node":'),
      'tailnet-unreachable',
      /is not understood/,
    ],
    [
      'where it answers with another shape',
      () => (tailscaled.answer = { Node: 1 }),
      'tailnet-unreachable',
      /is not understood/,
    ],
    ['where it does not answer', () => (tailscaled.hangs = true), 'tailnet-unreachable', /no answer within 2 s/],
  ])('refuses a node %s', async (_, change, code, message) => {
    change();
    const [answer, said] = await ask();
    expect({ answer, messageMatchesSaid: message.test(said) }, said).toEqual({
      answer: code,
      messageMatchesSaid: true,
    });
  });

  it('believes no header of a proxy, and nothing on loopback', async () => {
    tailscaled.answer = null;
    const headers = {
      'Tailscale-User-Login': 'somebody@example.com',
      'X-Forwarded-For': '100.64.0.9',
      Forwarded: 'for=100.64.0.9',
    };
    expect((await ask(headers))[0]).toBe('peer-unknown');
  });

  it('refuses where the socket is gone, and says so', async () => {
    await tailscaled.stop();
    const [answer, said] = await ask();
    expect({ answer, said }).toEqual({
      answer: 'tailnet-unreachable',
      said: expect.stringContaining(tailscaled.socket),
    });
    await tailscaled.start();
    expect((await ask())[0]).toBe('accepted');
  });

  it('takes users', async () => {
    await reload({ users: ['somebody@example.com'] });
    expect((await ask())[0]).toBe('peer-not-allowed');
    tailscaled.answer = owned('somebody@example.com');
    expect((await ask())[0]).toBe('accepted');
    // The stand-in profile of tagged nodes is nobody.
    await reload({ users: ['tagged-devices'] });
    tailscaled.answer = tagged(['tag:ci']);
    expect((await ask())[0]).toBe('peer-not-allowed');
  });

  it('takes a capability, which narrows and never widens', async () => {
    await reload({ capability: CAP });
    expect((await ask())[0]).toBe('peer-not-allowed');
    const granted = (...values: unknown[]) => {
      tailscaled.answer = tagged(['tag:ci'], { [CAP]: values });
    };
    granted({ stacks: ['media*'], actions: ['rollout'] });
    expect((await ask({}, 'media-1'))[0]).toBe('accepted');
    expect((await ask({}, 'vault'))[0]).toBe('capability-not-allowed');
    granted({ stacks: ['vault'] }, { actions: ['scale'] });
    expect((await ask({}, 'media-1'))[0]).toBe('capability-not-allowed');
    granted({ stack: ['*'] });
    expect((await ask())[0]).toBe('peer-not-allowed');
  });

  it('counts and records each refusal', async () => {
    await reload({ tags: ['tag:ci'] });
    tailscaled.answer = null;
    await ask();
    expect((await host.audit()).at(-1)).toMatchObject({ event: 'refused', code: 'peer-unknown', address: '127.0.0.1' });
    expect(await host.metrics()).toMatch(/chatops_auth_failures_total\{reason="not_allowed"\} [1-9]/);
  });
});
