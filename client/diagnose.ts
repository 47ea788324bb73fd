import { execFile } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import type { ConnectionFailed } from './connect.ts';

const PORT_MS = 3_000;
const TAILSCALE_MS = 8_000;

/** Checks step by step why an agent is not reachable: the name, the port, the tailnet. Returns lines that begin with ✓, ✗ or –. */
export async function diagnose(url: string, error: ConnectionFailed): Promise<string> {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const number = Number(port || (protocol === 'wss:' ? 443 : 80));
  const lines = [
    ...(await checkName(host)),
    ...(await checkPort(host, number, error)),
    ...(await checkTailscale(host)),
  ];
  return lines.map(line => `  ${line}`).join('\n');
}

async function checkName(host: string): Promise<string[]> {
  try {
    const addresses = await lookup(host, { all: true });
    return [`✓ the name ${host} resolves to ${addresses.map(({ address }) => address).join(', ')}`];
  } catch {
    return [
      `✗ the name ${host} does not resolve.`,
      '    Check that the runner is on the tailnet (tailscale/github-action before this step) and that MagicDNS is on, or write the 100.x.y.z address.',
    ];
  }
}

async function checkPort(host: string, port: number, error: ConnectionFailed): Promise<string[]> {
  if (error.status !== undefined) {
    return [
      `✗ port ${port} answers, but not as an agent: ${error.message}`,
      error.status === 429
        ? '    Wait, or raise rate_limit in agent.yaml.'
        : '    Check the port in the input "agent" and "listen" in agent.yaml.',
    ];
  }
  const code = await new Promise<string>(done => {
    const socket = connect({ host, port, timeout: PORT_MS });
    socket.once('connect', () => done('open')).once('timeout', () => done('ETIMEDOUT'));
    socket.once('error', (failure: NodeJS.ErrnoException) => done(failure.code ?? failure.message));
    socket.once('connect', () => socket.destroy()).once('timeout', () => socket.destroy());
  });
  switch (code) {
    case 'open':
      return [
        `✓ port ${port} is open`,
        `✗ the WebSocket connection fails: ${error.message}`,
        '    Check that the agent listens on this port, and that ws:// or wss:// matches its configuration.',
      ];
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return [`– port ${port} was not checked: the name has no address`];
    case 'ECONNREFUSED':
      return [
        `✗ port ${port} refuses connections.`,
        '    Check that the agent is running ("systemctl status chatops-agent") and that "listen" in agent.yaml has this address and port.',
      ];
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return [
        `✗ port ${port} does not answer (${code}).`,
        '    Check that the host is on the tailnet, and that the access rules of the tailnet permit the tag of this runner to reach the port.',
      ];
    default:
      return [`✗ port ${port}: ${code}`];
  }
}

/** Asks the tailscale program, if it is installed. */
async function checkTailscale(host: string): Promise<string[]> {
  const status = await runProgram('tailscale', ['status', '--json']);
  if (status === undefined) return ['– tailscale is not installed here: not checked'];
  let state: string | undefined;
  try {
    state = String((JSON.parse(status.out) as { BackendState?: unknown }).BackendState);
  } catch {
    return [
      `✗ "tailscale status" fails: ${firstLine(status.err || status.out)}`,
      '    Put tailscale/github-action before this step, and check its OAuth client and tags.',
    ];
  }
  if (state !== 'Running') {
    return [
      `✗ tailscale is ${state}, not Running.`,
      '    Put tailscale/github-action before this step, and check its OAuth client and tags.',
    ];
  }
  const ping = await runProgram('tailscale', ['ping', '--c=3', '--timeout=2s', host]);
  if (ping?.code === 0) return ['✓ tailscale is running', `✓ tailscale ping: ${firstLine(ping.out)}`];
  return [
    '✓ tailscale is running',
    `✗ tailscale ping fails: ${firstLine(ping?.out || ping?.err || 'no answer')}`,
    '    Check that tailscale is running on the host. A tailnet needs some seconds after joining: raise connect-timeout.',
  ];
}

/** Runs a program. Returns undefined if it is not installed. */
function runProgram(program: string, args: string[]): Promise<{ code: number; out: string; err: string } | undefined> {
  return new Promise(done => {
    execFile(program, args, { timeout: TAILSCALE_MS, maxBuffer: 8 * 1024 * 1024 }, (error, out, err) => {
      if (error?.code === 'ENOENT') done(undefined);
      else done({ code: error ? 1 : 0, out, err });
    });
  });
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0]?.slice(0, 200) ?? '';
}
