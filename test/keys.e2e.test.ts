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
/** Sends plans until `stop` is called, which returns the result of each. */
function traffic(inputs: () => Record<string, string>) {
  let isStopped = false;
  const sent = merge();
  const results = (async () => {
    const answers: string[] = [];
    while (!isStopped) {
      const job = await world.deploy(sent, 'up', { inputs: { mode: 'plan', ...inputs() } });
      answers.push(`${job.outputs.status} ${job.outputs.reason}`);
    }
    return answers;
  })();
  return {
    stop() {
      isStopped = true;
      return results;
    },
  };
}

describe('the signing keys of a trust entry', () => {
  it('prints the fingerprint of a signing key, but not the secret', async () => {
    for (const text of [second.public, second.secret]) {
      const done = await world.host.chatops(['key', 'fingerprint', text]);
      expect({ exit: done.code, namesFingerprint: done.stdout.includes(second.id) }, done.stderr).toEqual({
        exit: 0,
        namesFingerprint: true,
      });
      expect(done.stdout).not.toContain(second.secret);
    }
    const dir = mkdtempSync(join(tmpdir(), 'chatops-key-'));
    writeFileSync(join(dir, 'key'), `${second.secret}\n`);
    expect((await chatops('key', 'fingerprint', join(dir, 'key'))).stdout).toContain(second.public);
    rmSync(dir, { recursive: true });
  });

  it('replaces a signing key without refusing a command, and the old key stops at once, even on an open connection', async () => {
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

    // A client with the old key follows a run that waits.
    world.stack('slow', {
      'compose.yaml':
        'services: {web: {image: "chatops-test/web:1", pull_policy: never, command: [sleep, "60"], init: true, stop_grace_period: 0s}}\n',
    });
    const open = new Client(world.host.url);
    const waits = command([{ action: 'rollout', stack: 'slow', verify: { settle: '20s' }, label_required: LABEL }]);
    waits.origin.sha = world.repository.head();
    await open.send(waits, world.host.keys.secret);
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

  it('keeps agent.yaml after a wrong command, and its comments and mode after a right one', async () => {
    const before = readFileSync(world.host.configFile, 'utf8');
    expect((await chatops('key', 'remove', 'ffff', '--entry', 'homelab')).stderr).toContain(`It has: ${second.id}`);
    expect((await chatops('key', 'add', second.public, '--entry', 'missing')).stderr).toContain(
      'The trust entry "missing" does not exist',
    );
    expect((await chatops('key', 'add', 'nonsense', '--entry', 'homelab')).code).toBe(1);
    // An entry without a key would authenticate no sender.
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
  it('replaces the agent’s own key without refusing a command', { timeout: 60_000 }, async () => {
    const old = world.host.agentKey;
    let pinned = old;
    const { stop } = traffic(() => ({ 'signing-key': second.secret, 'agent-key': pinned }));
    const started = await chatops('key', 'rotate');
    const next = /agent-key: (ed25519:\S+)/.exec(started.stdout)?.[1] ?? '';
    expect({ exit: started.code, isNewKey: next !== old && next !== '' }, started.stdout + started.stderr).toEqual({
      exit: 0,
      isNewKey: true,
    });
    expect((await chatops('key', 'rotate')).stdout).toContain(next);
    // Both keys are valid now, also for runs that started before.
    const job = await world.deploy(merge(), 'up', { inputs: { 'signing-key': second.secret, 'agent-key': next } });
    expect(job.outputs.status, job.log).toBe('succeeded');
    pinned = next;
    // Plans that are under way with the old key finish.
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
