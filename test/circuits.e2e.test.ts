import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { docker, World, webStack } from './stand/world.ts';

/** The engine's bridge: an address of this machine that is not loopback. An engine that shares it reports no gateway. */
const name = docker('network', 'inspect', 'bridge', '--format', '{{index .Options "com.docker.network.bridge.name"}}');
const addresses = execFileSync('ip', ['-4', '-oneline', 'addr', 'show', 'dev', name.trim()], { encoding: 'utf8' });
const bridge = /inet ([\d.]+)/.exec(addresses)?.[1] ?? '';
let world: World;
beforeAll(async () => {
  world = new World();
  await world.host.start({ verify: { allow: ['127.0.0.0/8', 'stack', `${bridge}/32`] } });
});
afterAll(() => world[Symbol.asyncDispose]());

async function roll(stack: string, more = ''): Promise<string> {
  const file = join(world.dir, 'it.yaml');
  writeFileSync(file, `action: rollout\nstack: ${stack}\ntimeout: 30s\n${more}`);
  const { stdout } = await world.host.chatops(['run', file]);
  return stdout.trim().split('\n').at(-1) ?? '';
}

describe('a registry that does not work', () => {
  it('has an open circuit after five failed pulls, and the next rollout is refused before it changes anything', async () => {
    const registry = `127.0.0.1:${await freePort()}`;
    world.stack('circuit-pull', { 'compose.yaml': `services: {web: {image: "${registry}/web:1"}}\n` });
    for (let n = 0; n < 5; n++) expect(await roll('circuit-pull')).toContain('pull-failed');
    const refused = await roll('circuit-pull');
    expect(refused).toContain(`circuit-open. registry ${registry} has failed 5 times in a row`);
    expect(refused).toContain('Nothing was changed.');
    expect(await world.host.metrics()).toContain(`chatops_circuit_state{name="registry ${registry}"} 1`);
    // The circuit of one registry does not affect other stacks.
    world.stack('circuit-free', { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    expect(await roll('circuit-free')).toBe('✓ succeeded');
  });
});

describe('an address outside of the host that "verify" requests', () => {
  it('has an open circuit after five failures in a row; loopback has no circuit', async () => {
    const port = await freePort();
    world.stack('circuit-verify', { 'compose.yaml': webStack('chatops-test/web:1', await freePort()) });
    const verify = (host: string) => `verify: {http: {url: "http://${host}:${port}/", retries: 0, timeout: 1s}}\n`;
    for (let n = 0; n < 4; n++) expect(await roll('circuit-verify', verify('127.0.0.1'))).toContain('ECONNREFUSED');
    // A failed rollout requests it twice: the agent verifies the restored version as well.
    for (let n = 0; n < 3; n++) expect(await roll('circuit-verify', verify(bridge))).toContain('ECONNREFUSED');
    expect(await roll('circuit-verify', verify(bridge))).toContain(`circuit-open. verify ${bridge} has failed 5 times`);
    const server: Server = createServer((_, response) => response.end('ok')).listen(port, '127.0.0.1');
    try {
      expect(await roll('circuit-verify', verify('127.0.0.1'))).toBe('✓ succeeded');
    } finally {
      server.close();
    }
  });
});
