import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requestAgent } from '../agent/cli/local-client.ts';
import { generateKey, readPublicKey } from '../protocol/keys.ts';
import { PAYLOAD_TYPES, type Signed, verifySignature } from '../protocol/signature.ts';
import { Host } from './stand/host.ts';
import { Client, command } from './stand/signer.ts';

let dir: string;
let host: Host;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-selftest-'));
  host = new Host({ dir, repository: 'org/homelab', config: { rate_limit: { commands: 10, per: '1m' } } });
  await host.start();
});
afterAll(async () => {
  await host.stop();
  rmSync(dir, { recursive: true });
});

interface Report {
  attacks: number;
  failed: number;
  results: { name: string; got: string; passed: boolean }[];
}
const reportIn = (file: string): Report | undefined => {
  const signed = JSON.parse(readFileSync(file, 'utf8')) as Signed;
  const proof = verifySignature(signed, PAYLOAD_TYPES.selftest, [readPublicKey(host.agentKey)]);
  return proof && (JSON.parse(proof.body.toString()) as Report);
};

describe('chatops selftest --attack', () => {
  it('runs about fifty attacks against the running agent, which resists all of them, and signs the report', {
    timeout: 90_000,
  }, async () => {
    const file = join(dir, 'report.json');
    const done = await host.chatops(['selftest', '--attack', '--out', file]);
    expect(done.code, done.stdout + done.stderr).toBe(0);
    const report = reportIn(file);
    expect({ failed: report?.failed, results: report?.results.filter(({ passed }) => !passed) }).toEqual({
      failed: 0,
      results: [],
    });
    expect(report?.attacks).toBeGreaterThanOrEqual(40);
    expect(new Set(report?.results.map(({ name }) => name)).size).toBe(report?.attacks);
    expect(done.stdout).toContain(`${report?.attacks} attacks, 0 unexpected results; report: ${file}`);
    const events = (await host.audit()).map(({ event }) => event);
    expect(events).toEqual(expect.arrayContaining(['selftest', 'selftest-ended']));
    // The key of the selftest was valid only during the selftest, and only for stacks that do not exist.
    const entries = new Set(
      (await host.audit()).filter(({ event }) => event === 'run-begun').map(({ trust }) => trust),
    );
    expect([...entries]).toEqual(['selftest']);
  });

  it('reports each attack with an unexpected answer, and exits with 1', { timeout: 90_000 }, async () => {
    await host.stop();
    await host.start({ doors: { hosts: ['rebound.example.org'] } });
    const done = await host.chatops(['selftest', '--attack', '--json']);
    expect(done.code).toBe(1);
    const report = JSON.parse(Buffer.from(JSON.parse(done.stdout).payload, 'base64').toString()) as Report;
    // The WebSocket attack finishes last: the agent waits for its first frame.
    expect(report.results.filter(({ passed }) => !passed).map(({ name }) => name)).toEqual([
      'a foreign host name at /metrics',
      'a foreign host name',
    ]);
  });

  it('signs no report without a selftest, starts no selftest without --attack, and trusts no key afterwards', async () => {
    const socket = join(host.state, 'agent.sock');
    const report = { agent: 'x', version: 'x', at: 'x', attacks: 0, failed: 0, results: [] };
    await expect(requestAgent(socket, 'POST', '/selftest/report', report)).rejects.toMatchObject({
      code: 'no-selftest',
    });
    expect((await host.chatops(['selftest'])).code).toBe(2);
    const key = generateKey();
    const client = new Client(host.url);
    await client.send(
      {
        ...command([{ action: 'rollout', stack: 'chatops-selftest' }], { dry_run: true }),
        origin: { ...command([]).origin, repository: 'chatops/selftest' },
      },
      key.secret,
    );
    expect(await client.answer()).toBe('signature-invalid');
    await client.end();
  });
});
