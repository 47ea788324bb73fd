import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '../agent/config/load.ts';
import { readSecretKey } from '../protocol/keys.ts';
import { GitHubDouble } from './doubles/github.ts';
import { IssuerDouble } from './doubles/issuer.ts';
import { LABEL, World } from './stand/world.ts';

let dir: string;
const github = new GitHubDouble('org/homelab');
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-init-'));
  await github.start();
});
afterAll(async () => {
  await github.stop();
  rmSync(dir, { recursive: true });
});

async function init(name: string, ...args: string[]): Promise<{ code: number | null; output: string; dir: string }> {
  const folder = join(dir, name);
  const child = spawn(process.execPath, [
    'dist/agent/index.js',
    'init',
    '--github-api',
    github.url,
    '--dir',
    folder,
    ...args,
  ]);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', chunk => (output += chunk));
  const [code] = await once(child, 'close');
  return { code, output, dir: folder };
}

describe('chatops init', () => {
  it('writes the configuration of the dual profile and a key that only its owner can read', async () => {
    const done = await init('dual', '--repository', 'org/homelab', '--label', 'ok', '--agent', 'whitebox');
    expect(done.code, done.output).toBe(0);
    const [entry] = readConfig(join(done.dir, 'agent.yaml')).trust;
    const secret = readFileSync(join(done.dir, 'signing.key'), 'utf8');
    expect(entry).toMatchObject({
      repository: 'org/homelab',
      key: readSecretKey(secret).public.text,
      github: { repository_id: '7001', repository_owner_id: '1', ref: 'refs/heads/main' },
      allow: [{ name: 'deploy', require_labels: ['ok'] }],
    });
    expect(statSync(join(done.dir, 'signing.key')).mode & 0o777).toBe(0o600);
    expect(done.output).toContain('id-token: write');
    expect(done.output).not.toContain(secret.trim());
    // A second call replaces nothing.
    const again = await init('dual', '--repository', 'org/homelab');
    expect({ exit: again.code, output: again.output }).toEqual({
      exit: 1,
      output: expect.stringContaining('exists and is not replaced'),
    });
    expect(readFileSync(join(done.dir, 'signing.key'), 'utf8')).toBe(secret);
  });

  it('writes the keyless profile without a key, and the offline profile without GitHub', async () => {
    const keyless = await init('keyless', '--repository', 'org/homelab', '--profile', 'keyless');
    expect({ exit: keyless.code, keyExists: existsSync(join(keyless.dir, 'signing.key')) }, keyless.output).toEqual({
      exit: 0,
      keyExists: false,
    });
    expect(readConfig(join(keyless.dir, 'agent.yaml')).trust[0]).not.toHaveProperty('key');
    github.asked.length = 0;
    const offline = await init('offline', '--repository', 'org/homelab', '--profile', 'offline');
    expect({ exit: offline.code, asked: github.asked }, offline.output).toEqual({ exit: 0, asked: [] });
    expect(readConfig(join(offline.dir, 'agent.yaml')).trust[0]).not.toHaveProperty('github');
    expect(offline.output).not.toContain('id-token');
  });

  it('prints a command that finds the repository’s numbers if GitHub does not show them', async () => {
    const hidden = await init('hidden', '--repository', 'org/hidden');
    expect({ exit: hidden.code, output: hidden.output }).toEqual({
      exit: 1,
      output: expect.stringContaining("gh api repos/org/hidden --jq '.id, .owner.id'"),
    });
    expect(existsSync(hidden.dir)).toBe(false);
    const given = await init('given', '--repository', 'org/hidden', '--repository-id', '5', '--owner-id', '6');
    expect(given.code, given.output).toBe(0);
    expect((await init('x', '--repository', 'nonsense', '--profile', 'offline')).code).toBe(1);
    expect((await init('x', '--repository', 'org/homelab', '--profile', 'other')).code).toBe(2);
  });

  it('writes a configuration and a key that a deployment works with', async () => {
    const done = await init('whole', '--repository', 'org/homelab', '--label', LABEL, '--agent', 'whitebox');
    const issuer = await new IssuerDouble().start();
    await using world = new World();
    const [entry] = readConfig(join(done.dir, 'agent.yaml')).trust;
    await world.github.start();
    await world.host.start({ trust: [entry], oidc: { issuer: issuer.url } });
    world.stack('media', {
      'compose.yaml':
        'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
    });
    const merge = world.merge({
      'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: media\n`,
    });
    issuer.claims = { sha: merge.sha };
    const inputs = { 'signing-key': readFileSync(join(done.dir, 'signing.key'), 'utf8') };
    const job = await world.deploy(merge, 'up', { inputs, env: issuer.env });
    expect(job.outputs.status, job.log).toBe('succeeded');
    const alone = await world.deploy(merge, 'up', { inputs });
    expect(alone.outputs.reason).toBe('token-missing');
    await issuer.stop();
  });
});
