import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../protocol/keys.ts';
import { Client, command } from './stand/signer.ts';
import { LABEL, World } from './stand/world.ts';

const second = generateKey();
let world: World;
beforeAll(async () => {
  world = await new World().start();
  world.stack('keyed', {
    'compose.yaml':
      'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n',
  });
});
afterAll(() => world[Symbol.asyncDispose]());

const merge = () =>
  world.merge({ 'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: keyed\n` });
const chatops = (...args: string[]) => world.host.chatops(args);
const audit = async (event: string) => (await world.host.audit()).filter(row => row.event === event);
/** Sends plans without end until it is told to stop; returns how each ended. */
function traffic(inputs: () => Record<string, string>) {
  let isOver = false;
  const sent = merge();
  const ends = (async () => {
    const answers: string[] = [];
    while (!isOver) {
      const job = await world.deploy(sent, 'up', { inputs: { mode: 'plan', ...inputs() } });
      answers.push(`${job.outputs.status} ${job.outputs.reason}`);
    }
    return answers;
  })();
  return {
    stop() {
      isOver = true;
      return ends;
    },
  };
}

describe('a signing key', () => {
  it('has a fingerprint, which is what the log and the audit call it', async () => {
    for (const text of [second.public, second.secret]) {
      const done = await world.host.chatops(['key', 'fingerprint', text]);
      expect({ exit: done.code, stdoutNames: done.stdout.includes(second.id) }, done.stderr).toEqual({
        exit: 0,
        stdoutNames: true,
      });
      expect(done.stdout).not.toContain(second.secret);
    }
    const dir = mkdtempSync(join(tmpdir(), 'chatops-key-'));
    writeFileSync(join(dir, 'key'), `${second.secret}\n`);
    expect((await chatops('key', 'fingerprint', join(dir, 'key'))).stdout).toContain(second.public);
    rmSync(dir, { recursive: true });
  });

  it('is changed without a command being refused, and the old one ends at once, also where its connection is open', async () => {
    let key = world.host.keys.secret;
    const { stop } = traffic(() => ({ 'signing-key': key }));
    const added = await chatops('key', 'add', second.public, '--entry', 'homelab');
    expect({ exit: added.code, stdout: added.stdout }, added.stderr).toEqual({
      exit: 0,
      stdout: expect.stringContaining('configuration reloaded'),
    });
    expect((await chatops('key', 'add', second.public, '--entry', 'homelab')).code).toBe(0);
    key = second.secret;
    const answers = await stop();
    expect(new Set(answers)).toEqual(new Set(['planned ']));

    // Somebody with the old key follows a run that waits.
    world.stack('slow', {
      'compose.yaml':
        'services: {web: {image: "chatops-test/web:1", pull_policy: never, command: [sleep, "60"], init: true, stop_grace_period: 0s}}\n',
    });
    const open = new Client(world.host.url);
    await open.send(
      command([{ action: 'rollout', stack: 'slow', verify: { settle: '20s' }, label_required: LABEL }]),
      world.host.keys.secret,
    );
    expect(await open.answer()).toBe('accepted');
    const removed = await chatops('key', 'remove', world.host.keys.id, '--entry', 'homelab');
    expect({ exit: removed.code, stdout: removed.stdout }, removed.stderr).toEqual({
      exit: 0,
      stdout: expect.stringContaining(`"homelab" no longer trusts the key ${world.host.keys.id}`),
    });
    await expect.poll(() => open.closed).toBe(1008);
    expect((await world.deploy(merge(), 'up')).outputs.reason).toBe('signature-invalid');
    const job = await world.deploy(merge(), 'up', { inputs: { 'signing-key': second.secret } });
    expect(job.outputs.status, job.log).toBe('succeeded');

    expect(await audit('connection-revoked')).toMatchObject([{ key: world.host.keys.id, trust: 'homelab' }]);
    const reloads = await audit('reloaded');
    expect(reloads[0]).toMatchObject({ keys_added: [`homelab:${second.id}`], keys_removed: [], policy_changed: true });
    expect(reloads.at(-1)).toMatchObject({ keys_added: [], keys_removed: [`homelab:${world.host.keys.id}`] });
    const run = (await world.host.chatops(['runs', '--json'])).stdout;
    const waiting = (JSON.parse(run) as { id: string; title: string; state: string }[]).find(({ title }) =>
      title.includes('slow'),
    );
    expect(waiting?.state).toBe('running');
    await chatops('cancel', waiting?.id ?? '');
  });

  it('is not lost by a wrong command, nor what else the file says', async () => {
    const before = readFileSync(world.host.configFile, 'utf8');
    expect((await chatops('key', 'remove', 'ffff', '--entry', 'homelab')).stderr).toContain(`It has: ${second.id}`);
    expect((await chatops('key', 'add', second.public, '--entry', 'nobody')).stderr).toContain(
      'The trust entry "nobody" does not exist',
    );
    expect((await chatops('key', 'add', 'nonsense', '--entry', 'homelab')).code).toBe(1);
    // Without a key nobody would vouch.
    expect((await chatops('key', 'remove', second.id, '--entry', 'homelab')).stderr).toContain(
      'Expected "key", "github" or both',
    );
    expect((await chatops('key')).code).toBe(2);
    expect(readFileSync(world.host.configFile, 'utf8')).toBe(before);
    writeFileSync(world.host.configFile, `# who may do what\n${before}`, { mode: 0o600 });
    expect((await chatops('key', 'add', generateKey().public, '--entry', 'homelab')).code).toBe(0);
    expect(readFileSync(world.host.configFile, 'utf8')).toMatch(/^# who may do what\n/);
    expect(statSync(world.host.configFile).mode & 0o777).toBe(0o600);
  });
});

describe('the agent’s own key', () => {
  it('is changed without a command being refused', { timeout: 60_000 }, async () => {
    const old = world.host.agentKey;
    let pinned = old;
    const { stop } = traffic(() => ({ 'signing-key': second.secret, 'agent-key': pinned }));
    const begun = await chatops('key', 'rotate');
    const next = /agent-key: (ed25519:\S+)/.exec(begun.stdout)?.[1] ?? '';
    expect({ exit: begun.code, nextDiffers: next !== old && next !== '' }, begun.stdout + begun.stderr).toEqual({
      exit: 0,
      nextDiffers: true,
    });
    expect((await chatops('key', 'rotate')).stdout).toContain(next);
    // Both are good now, also across runs that began before.
    const job = await world.deploy(merge(), 'up', { inputs: { 'signing-key': second.secret, 'agent-key': next } });
    expect(job.outputs.status, job.log).toBe('succeeded');
    pinned = next;
    // Those under way with the old one come to their end.
    const [first] = await Promise.all([stop()]);
    const later = traffic(() => ({ 'signing-key': second.secret, 'agent-key': next }));
    const done = await chatops('key', 'rotate', '--finish');
    expect({ exit: done.code, stdout: done.stdout }, done.stderr).toEqual({
      exit: 0,
      stdout: expect.stringContaining('The new key has replaced the old one.'),
    });
    const answers = [...first, ...(await later.stop())];
    expect(new Set(answers)).toEqual(new Set(['planned ']));
    const stale = await world.deploy(merge(), 'up', { inputs: { 'signing-key': second.secret, 'agent-key': old } });
    expect(stale.outputs.reason).toBe('agent-key-mismatch');
    expect((await chatops('key', 'rotate', '--finish')).stderr).toContain('Start with: chatops key rotate');
    expect(await audit('agent-key-changed')).toHaveLength(2);
    expect(statSync(join(world.host.state, 'agent.key')).mode & 0o777).toBe(0o600);
  });
});
