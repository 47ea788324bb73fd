import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';
import { requestLines } from '../../agent/cli/local-client.ts';
import { type Agent, type AgentOptions, startAgent } from '../../agent/main.ts';
import type { Intent } from '../../intents/intent.ts';
import type { ShippedFile } from '../../protocol/command.ts';
import { generateKey } from '../../protocol/keys.ts';
import { Client, command } from './signer.ts';

/** Command line that starts a supervisor from the sources. */
export const KEEPER: [string, ...string[]] = [
  process.execPath,
  resolve(import.meta.dirname, '../../agent/cli.ts'),
  'keeper',
];

export const keys = generateKey();
export const second = generateKey();
export const stranger = generateKey();
export const neighbour = generateKey();
export const dir = mkdtempSync(join(tmpdir(), 'chatops-agent-'));
export const stacks = join(dir, 'stacks');
export const file = join(dir, 'agent.yaml');
export const said: string[] = [];
export let agent: Agent;

/** Writes agent.yaml; `agent.reload()` applies it. */
export function configure(changes: object = {}): void {
  const config = {
    agent: 'whitebox',
    listen: '127.0.0.1:0',
    state_dir: join(dir, 'state'),
    rate_limit: { commands: 1000, per: '1m' },
    stacks: { root: stacks },
    docker: { socket: join(dir, 'no-docker.sock') },
    trust: [
      {
        name: 'homelab',
        key: [keys.public, second.public],
        repository: 'org/homelab',
        repository_id: '7001',
        allow: [
          {
            actions: ['rollout', 'scale'],
            stacks: ['stack-*'],
            require_labels: ['approved-by-gemini'],
            without_approval: ['workflow_dispatch'],
          },
          { actions: ['backup'], stacks: ['stack-*'] },
          { actions: ['scale'], stacks: ['one'], services: ['web*'] },
        ],
      },
      {
        name: 'neighbour',
        key: neighbour.public,
        repository: 'org/homelab',
        allow: [{ actions: ['rollout'], stacks: ['stack-*'] }],
      },
    ],
    ...changes,
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
}

/** Starts an agent in this process, without Docker, for the tests of one file. It sets `agent` and fills `said`. */
export function withAgent(options: Partial<AgentOptions> = {}): void {
  beforeAll(async () => {
    mkdirSync(join(stacks, 'stack-web'), { recursive: true });
    mkdirSync(join(stacks, 'one'));
    mkdirSync(join(dir, 'outside'));
    symlinkSync(join(dir, 'outside'), join(stacks, 'stack-link'));
    symlinkSync('/etc/passwd', join(stacks, 'stack-web', 'leak.yml'));
    configure();
    agent = await startAgent(file, { log: line => said.push(line), supervisor: KEEPER, ...options });
  });
  afterAll(async () => {
    await agent.stop();
    rmSync(dir, { recursive: true });
  });
}

export const url = () => `ws://127.0.0.1:${agent.port}`;
export const rollout = (changes: object = {}): Intent =>
  ({ action: 'rollout', stack: 'stack-web', ...changes }) as Intent;
/** Signs a body with `secret`, sends it and returns the answer's code. */
export async function ask(body: object, secret = keys.secret): Promise<string> {
  const client = new Client(url());
  await client.send(body, secret);
  const answer = await client.answer();
  await client.end();
  return answer;
}
export const shipped = (path: string, changes: Partial<ShippedFile> = {}): ShippedFile => {
  const content = Buffer.from('services: {}\n');
  return {
    stack: 'stack-web',
    path,
    mode: 0o644,
    sha256: createHash('sha256').update(content).digest('hex'),
    content: content.toString('base64'),
    ...changes,
  };
};
export const ships = (files: ShippedFile[]) =>
  command([rollout({ source_dir: 'stacks/web' })], { files, dry_run: true });
export const audit = async () => {
  const rows: Record<string, unknown>[] = [];
  for await (const { body } of requestLines<{ body: string }>(join(dir, 'state', 'agent.sock'), '/audit'))
    rows.push(JSON.parse(body) as Record<string, unknown>);
  return rows;
};
let metricsAt = 0;
/** Returns metrics that are newer than the call: the agent answers from a cache that is one second old. */
export const metrics = async () => {
  await sleep(Math.max(0, metricsAt + 1_100 - performance.now()));
  const text = await (await fetch(`http://127.0.0.1:${agent.port}/metrics`)).text();
  metricsAt = performance.now();
  return text;
};

export function follow(run: string): object {
  const { approval, intents, files, params, dry_run, ...rest } = command([]);
  return { ...rest, type: 'follow', id: randomUUID(), run, after: 0 };
}
