import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { Agent, get, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../protocol/keys.ts';
import { TailscaledDouble, tagged } from './doubles/tailscaled.ts';
import { Host } from './stand/host.ts';
import { Client } from './stand/signer.ts';

const TOKEN = 'a-token-of-forty-letters-or-something-so';
let dir: string;
let host: Host;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-doors-'));
  host = new Host({ dir: join(dir, 'host'), repository: 'org/homelab' });
  await host.start();
});
afterAll(async () => {
  await host.stop();
  rmSync(dir, { recursive: true });
});

async function restart(changes: Record<string, unknown>, env: Record<string, string> = {}): Promise<void> {
  await host.stop();
  Object.assign(process.env, env);
  await host.start(changes);
}
/** Returns the status of a GET with these headers. */
const status = (path: string, headers: Record<string, string> = {}) =>
  new Promise<number | undefined>((done, fail) => {
    request({ host: '127.0.0.1', port: host.port, path, headers }, response => {
      response.resume();
      done(response.statusCode);
    })
      .on('error', fail)
      .end();
  });

describe('the HTTP endpoints', () => {
  it('endpoints need no token if agent.yaml names none', async () => {
    expect(await Promise.all(['/healthz', '/metrics'].map(path => status(path)))).toEqual([200, 200]);
  });

  it('endpoints require the token that agent.yaml names, except /healthz', async () => {
    writeFileSync(join(dir, 'token'), `${TOKEN}\n`, { mode: 0o600 });
    await restart({ doors: { token_file: join(dir, 'token') } });
    const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
    expect(await status('/healthz')).toBe(200);
    expect(await status('/metrics')).toBe(401);
    expect(await status('/readyz')).toBe(401);
    expect(await status('/metrics', bearer('another'))).toBe(401);
    expect(await status('/metrics', { Authorization: TOKEN })).toBe(401);
    expect(await status('/metrics', bearer(TOKEN))).toBe(200);
    expect((await host.audit()).at(-1)).toMatchObject({ event: 'refused', code: 'door-closed' });
  });

  it('endpoints stay closed if the token file is missing or other users can read it', async () => {
    const file = join(dir, 'open');
    writeFileSync(file, `${TOKEN}\n`, { mode: 0o644 });
    await restart({ doors: { token_file: file } });
    expect(await status('/metrics', { Authorization: `Bearer ${TOKEN}` })).toBe(401);
    expect(host.log).toContain(`Run: chmod 600 ${file}`);
    await restart({ doors: { token_file: join(dir, 'gone') } });
    expect(await status('/metrics', { Authorization: `Bearer ${TOKEN}` })).toBe(401);
  });

  it('endpoints read their token from systemd credentials', async () => {
    await host.stop();
    const credentialed = new Host({
      dir: join(dir, 'credentials'),
      repository: 'org/homelab',
      config: { doors: { token_file: 'credential:metrics' } },
      env: { CREDENTIALS_DIRECTORY: dir },
    });
    writeFileSync(join(dir, 'metrics'), `${TOKEN}\n`, { mode: 0o600 });
    await credentialed.start();
    const answer = await fetch(`http://127.0.0.1:${credentialed.port}/metrics`, {
      headers: { Authorization: `Bearer ${TOKEN}` },
    });
    expect(answer.status).toBe(200);
    await credentialed.stop();
  });

  it('endpoints open to an allowed peer of the tailnet', async () => {
    const tailscaled = await new TailscaledDouble(join(dir, 'tailscaled.sock')).start();
    await restart({ doors: { tailscale: { tags: ['tag:prometheus'] } }, tailscale: { socket: tailscaled.socket } });
    expect(await status('/metrics')).toBe(401);
    tailscaled.answer = tagged(['tag:prometheus']);
    // An answer is a second old at most.
    await expect.poll(() => status('/metrics'), { timeout: 3_000 }).toBe(200);
    await tailscaled.stop();
    await expect.poll(() => status('/metrics'), { timeout: 3_000 }).toBe(401);
  });

  it('endpoints ask tailscaled once a second for a peer that sends many requests', async () => {
    const tailscaled = await new TailscaledDouble(join(dir, 'tailscaled.sock')).start();
    tailscaled.answer = tagged(['tag:prometheus']);
    await restart({ doors: { tailscale: { tags: ['tag:prometheus'] } }, tailscale: { socket: tailscaled.socket } });
    tailscaled.asked.length = 0;
    // One connection: another port of loopback can be another peer.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const answers: (number | undefined)[] = [];
    const start = performance.now();
    for (let count = 0; count < 50; count++) {
      const [answer] = await once(get({ port: host.port, path: '/metrics', agent }), 'response');
      answers.push(answer.statusCode);
      answer.resume();
      await once(answer, 'end');
    }
    const seconds = Math.floor((performance.now() - start) / 1_000);
    expect(answers).toEqual(Array(50).fill(200));
    expect(tailscaled.asked.length).toBeLessThanOrEqual(seconds + 1);
    agent.destroy();
    await tailscaled.stop();
  });

  it('endpoints answer to their own names only, so that a browser page cannot rebind its name', async () => {
    await restart({ doors: { hosts: ['box.example.org'] } });
    const hosts = ['evil.example.org', 'evil.example.org:8000', 'evil.ts.net.example.org'];
    for (const name of hosts) expect(await status('/metrics', { Host: name }), name).toBe(421);
    for (const name of ['whitebox', 'whitebox:8000', 'localhost', '[::1]:8000', 'box.tail12.ts.net', 'box.example.org'])
      expect(await status('/metrics', { Host: name }), name).toBe(200);
    const client = new Client(host.url, { headers: { Host: 'evil.example.org' } });
    await client.frame('hello');
    expect({ status: client.status, code: JSON.parse(client.body).code }).toEqual({
      status: 421,
      code: 'host-not-own',
    });
  });
});

describe('the limits of connections', () => {
  const drip = () => {
    const socket = connect(host.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('GET /v1 HTTP/1.1\r\nHost: localhost\r\n');
    return socket;
  };

  it('limits the connections of an address and still serves other addresses', async () => {
    await restart({ limits: { connections: 100, connections_per_address: 3 } });
    const open = Array.from({ length: 8 }, drip);
    await sleep(300);
    const left = open.filter(socket => !socket.closed).length;
    // The health check of the start may still hold a connection.
    expect(left === 2 || left === 3).toBe(true);
    // Another loopback address is another client.
    const other = await new Promise<number | undefined>((done, fail) => {
      request({ host: '127.0.0.1', port: host.port, path: '/healthz', localAddress: '127.0.0.9' }, response =>
        done(response.statusCode),
      )
        .on('error', fail)
        .end();
    });
    expect(other).toBe(200);
    for (const socket of open) socket.destroy();
    await sleep(100);
    expect(await status('/healthz')).toBe(200);
    expect((await host.audit()).map(({ code }) => code)).toContain('too-many-connections');
  });

  it('limits the connections of all addresses together', async () => {
    await restart({ limits: { connections: 6, connections_per_address: 3 } });
    const from = (localAddress: string) => {
      const socket = connect({ port: host.port, host: '127.0.0.1', localAddress });
      socket.on('error', () => undefined);
      return socket;
    };
    const open = Array.from({ length: 12 }, (_, index) => from(`127.0.1.${index + 1}`));
    await sleep(300);
    const left = open.filter(socket => !socket.closed).length;
    expect(left).toBe(3);
    for (const socket of open) socket.destroy();
    await expect.poll(() => status('/healthz')).toBe(200);
  });

  it('closes a connection that sends a request head too slowly', { timeout: 20_000 }, async () => {
    await restart({ limits: { connections: 500, connections_per_address: 500 } });
    const sockets: Socket[] = Array.from({ length: 300 }, drip);
    const feeding = setInterval(() => {
      for (const socket of sockets) if (!socket.closed) socket.write('X: y\r\n');
    }, 500);
    const before = performance.now();
    const client = new Client(host.url);
    expect(await client.frame('hello')).toBeDefined();
    expect(performance.now() - before).toBeLessThan(2_000);
    await client.end();
    while (sockets.some(socket => !socket.closed) && performance.now() - before < 15_000) await sleep(100);
    clearInterval(feeding);
    expect(sockets.filter(socket => !socket.closed)).toHaveLength(0);
    expect(performance.now() - before).toBeLessThan(9_000);
  });

  it('counts repeated refusals instead of adding each to the audit log', async () => {
    const limits = { connections: 500, connections_per_address: 500 };
    await restart({ limits });
    host.configure({ allow_from: ['100.64.0.0/10'], limits });
    host.child?.kill('SIGHUP');
    await expect.poll(() => status('/metrics')).toBe(403);
    const before = (await host.audit()).length;
    for (let n = 0; n < 20; n++) await Promise.all(Array.from({ length: 20 }, () => status('/metrics').catch(() => 0)));
    expect((await host.audit()).length - before).toBeLessThanOrEqual(121);
    await host.stop();
    const rows = await host.audit();
    expect(rows.find(({ event }) => event === 'refused-more')).toMatchObject({ count: expect.any(Number) });
  });
});

describe('TLS', () => {
  function certify(name: string): { cert_file: string; key_file: string } {
    const files = { cert_file: join(dir, 'tls.crt'), key_file: join(dir, 'tls.key') };
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
        ...['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
        ...['-keyout', files.key_file, '-out', files.cert_file],
      ],
      { stdio: 'ignore' },
    );
    return files;
  }
  const subject = () =>
    new Promise<string>((done, fail) => {
      const socket = connectTls({ host: '127.0.0.1', port: host.port, rejectUnauthorized: false }, () => {
        const { CN } = socket.getPeerCertificate().subject;
        socket.destroy();
        done(String(CN));
      });
      socket.on('error', fail);
    });

  it('serves TLS if agent.yaml names a certificate, and reloads a renewed one', async () => {
    const tls = certify('first');
    await host.stop();
    const secure = new Host({
      dir: join(dir, 'tls'),
      repository: 'org/homelab',
      keys: generateKey(),
      config: { tls },
      tls: true,
    });
    await secure.start();
    host.port = secure.port;
    expect(await subject()).toBe('first');
    const client = new Client(`wss://127.0.0.1:${secure.port}`, { ca: readFileSync(tls.cert_file) });
    expect(await client.frame('hello')).toBeDefined();
    await client.end();
    certify('second');
    secure.child?.kill('SIGHUP');
    await expect.poll(subject).toBe('second');
    writeFileSync(tls.cert_file, 'nonsense');
    utimesSync(tls.cert_file, new Date(), new Date(Date.now() + 5_000));
    secure.child?.kill('SIGHUP');
    await expect.poll(() => secure.log).toContain('is unusable, the old one stays');
    expect(await subject()).toBe('second');
    await secure.stop();
  });

  it('does not start with TLS files that cannot be read', async () => {
    const broken = new Host({
      dir: join(dir, 'none'),
      repository: 'org/homelab',
      config: { tls: { cert_file: '/nonexistent', key_file: '/nonexistent' } },
    });
    await expect(broken.start()).rejects.toThrow(/tailscale cert/);
  });
});
