import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { messageOf } from '../../protocol/refusal.ts';
import { type LimitedRequest, openRequest, readBody, sendLimitedRequest } from './http-request.ts';

let dir: string;
let servers: Server[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-http-'));
  servers = [];
});
afterEach(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(dir, { recursive: true, force: true });
});

/** Starts a server and returns its URL. */
async function serve(listener: RequestListener, socketPath?: string): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  if (socketPath === undefined) server.listen(0, '127.0.0.1');
  else server.listen(socketPath);
  await once(server, 'listening');
  return socketPath === undefined ? `http://127.0.0.1:${(server.address() as AddressInfo).port}` : 'http://socket';
}

const send = (url: string, changes: Partial<LimitedRequest> = {}) =>
  sendLimitedRequest({ url, timeout: 5_000, maxBytes: 1_000, agent: false, ...changes });
const errorOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'no error', messageOf);

describe('sendLimitedRequest', () => {
  it('sends method, headers and body, and returns status, headers and body', async () => {
    const url = await serve(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      const { method, url: path, headers } = request;
      response.writeHead(201, 'Made', { 'X-Answer': 'yes' });
      response.end(JSON.stringify({ method, path, body, length: headers['content-length'], sent: headers['x-sent'] }));
    });
    const before = Date.now();
    const { body, headers, receivedAt, ...head } = await send(`${url}/a?b=c`, {
      method: 'POST',
      headers: { 'X-Sent': 'too' },
      body: 'grün',
    });
    expect(head).toEqual({ status: 201, statusText: 'Made' });
    expect(headers['x-answer']).toBe('yes');
    expect(receivedAt).toBeGreaterThanOrEqual(before);
    expect(JSON.parse(body.toString())).toEqual({
      method: 'POST',
      path: '/a?b=c',
      body: 'grün',
      length: '5',
      sent: 'too',
    });
  });

  it('sends over a unix socket, with the host of the URL', async () => {
    const socketPath = join(dir, 'engine.sock');
    const url = await serve((request, response) => response.end(`${request.headers.host}${request.url}`), socketPath);
    const { body } = await send(`${url}/_ping`, { socketPath });
    expect(body.toString()).toBe('socket/_ping');
  });

  it('follows no redirect', async () => {
    const url = await serve((_request, response) => response.writeHead(302, { Location: '/elsewhere' }).end());
    expect((await send(url)).status).toBe(302);
  });

  it('accepts a body of exactly the limit', async () => {
    const url = await serve((_request, response) => response.end('x'.repeat(1_000)));
    expect((await send(url)).body).toHaveLength(1_000);
  });

  it('fails for a body over the limit and closes the connection', async () => {
    let isClosed = false;
    const url = await serve((_request, response) => {
      response.on('close', () => {
        isClosed = true;
      });
      response.write('x'.repeat(1_001));
    });
    expect(await errorOf(send(url))).toBe('its answer is too large');
    await expect.poll(() => isClosed).toBe(true);
  });

  it('cuts a body over the limit if the caller asks for that, also one that never ends', async () => {
    const url = await serve((_request, response) => response.write('x'.repeat(5_000)));
    expect((await send(url, { overflow: 'cut' })).body.toString()).toBe('x'.repeat(1_000));
  });

  it('fails at the deadline if the server does not answer', async () => {
    const url = await serve(() => undefined);
    expect(await errorOf(send(url, { timeout: 200 }))).toBe('no answer within 0.2 s');
  });

  it('fails at the deadline if the body drips in, though bytes keep coming', async () => {
    const url = await serve((_request, response) => {
      const drip = setInterval(() => response.write('x'), 20);
      response.on('close', () => clearInterval(drip));
    });
    const start = performance.now();
    expect(await errorOf(send(url, { timeout: 300 }))).toBe('no answer within 0.3 s');
    expect(performance.now() - start).toBeLessThan(3_000);
  });

  it('fails if the connection breaks off within the body', async () => {
    const url = await serve((_request, response) => {
      response.writeHead(200, { 'Content-Length': '100' });
      response.write('half', () => response.destroy());
    });
    expect(await errorOf(send(url))).toBe('aborted');
  });

  it('fails with the cause if nothing listens at the address or the socket', async () => {
    const url = await serve(() => undefined);
    await new Promise(closed => servers[0]?.close(closed));
    expect(await errorOf(send(url))).toContain('ECONNREFUSED');
    expect(await errorOf(send('http://socket/', { socketPath: join(dir, 'none.sock') }))).toContain('ENOENT');
  });

  it('stops when the caller aborts, and does not call that a missed deadline', async () => {
    const url = await serve(() => undefined);
    const error = await send(url, { signal: AbortSignal.timeout(50) }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'AbortError' });
  });
});

describe('openRequest', () => {
  it('returns the response before its body has ended', async () => {
    let end = () => {};
    const url = await serve((_request, response) => {
      response.write('first\n');
      end = () => response.end('last\n');
    });
    const response = await openRequest({ url, agent: false });
    expect(response.statusCode).toBe(200);
    end();
    expect((await readBody(response, 100)).toString()).toBe('first\nlast\n');
  });
});
