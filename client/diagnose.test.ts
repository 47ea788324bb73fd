import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../test/stand/host.ts';
import { ConnectionFailed } from './connect.ts';
import { diagnose } from './diagnose.ts';

const path = process.env.PATH;
const dirs: string[] = [];
afterEach(() => {
  process.env.PATH = path;
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
});

/** Puts a program "tailscale" with fixed answers on PATH. */
function tailscale(status: string, ping: { output: string; code: number }): void {
  const dir = mkdtempSync(join(tmpdir(), 'chatops-tailscale-'));
  dirs.push(dir);
  const script = `#!${process.execPath}\nif (process.argv[2] === 'status') console.log(${JSON.stringify(status)});\nelse { console.log(${JSON.stringify(ping.output)}); process.exit(${ping.code}); }\n`;
  writeFileSync(join(dir, 'tailscale'), script);
  chmodSync(join(dir, 'tailscale'), 0o755);
  process.env.PATH = `${dir}:${path}`;
}

describe('the diagnosis of an unreachable agent', () => {
  it('names a host name that does not resolve', async () => {
    const text = await diagnose('ws://whitebox.invalid:8000', new ConnectionFailed('x'));
    expect(text).toContain('✗ the name whitebox.invalid does not resolve');
    expect(text).toContain('MagicDNS');
  });

  it('names a port without a listening program', async () => {
    const text = await diagnose(`ws://127.0.0.1:${await freePort()}`, new ConnectionFailed('x'));
    expect(text).toContain('✓ the name 127.0.0.1');
    expect(text).toContain('refuses connections');
    expect(text).toContain('systemctl status chatops-agent');
  });

  it('names a port on which another program listens', async () => {
    const server = createServer((_, response) => response.end('hi')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect(
      await diagnose(url, new ConnectionFailed('the answer does not come from an agent (HTTP 200)', 200)),
    ).toContain('not as an agent: the answer');
    expect(await diagnose(url, new ConnectionFailed('socket hang up'))).toContain('is open');
    server.close();
  });

  it('names a tailnet that is not running', async () => {
    tailscale('{"BackendState":"NeedsLogin"}', { output: '', code: 1 });
    expect(await diagnose('ws://127.0.0.1:1', new ConnectionFailed('x'))).toContain('tailscale is NeedsLogin');
  });

  it('names the result of a tailscale ping', async () => {
    tailscale('{"BackendState":"Running"}', { output: 'no matching peer', code: 1 });
    expect(await diagnose('ws://127.0.0.1:1', new ConnectionFailed('x'))).toContain(
      '✗ tailscale ping fails: no matching peer',
    );
    tailscale('{"BackendState":"Running"}', {
      output: 'pong from whitebox (100.64.0.7) via DERP(fra) in 34ms',
      code: 0,
    });
    expect(await diagnose('ws://127.0.0.1:1', new ConnectionFailed('x'))).toContain('✓ tailscale ping: pong');
  });

  it('notes that tailscale is not installed', async () => {
    process.env.PATH = '/nonexistent';
    expect(await diagnose('ws://127.0.0.1:1', new ConnectionFailed('x'))).toContain('tailscale is not installed');
  });
});
