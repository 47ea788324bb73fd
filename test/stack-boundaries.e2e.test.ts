import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Intent } from '../intents/intent.ts';
import { generateKey } from '../protocol/keys.ts';
import { Client, command } from './stand/signer.ts';
import { Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

const S = `bound-${process.pid}`;
const VAULT = `safe-${process.pid}`;
const SECRET = 'TOKEN=of-the-vault\n';
type Entry = 'narrow' | 'wide';
let host: Vault;
/** The rules of two keys: everything on S alone; and everything, with a deny rule for the other stack. */
const rules: { name: Entry; allow: object[]; deny?: object[] }[] = [
  { name: 'narrow', allow: [{ actions: ['rollout', 'backup', 'restore', 'drill'], stacks: [S] }] },
  {
    name: 'wide',
    allow: [{ actions: ['rollout', 'backup', 'restore', 'drill'], stacks: ['*'] }],
    deny: [{ stacks: [VAULT] }],
  },
];
const keys = { narrow: generateKey(), wide: generateKey() };
const trust = () => rules.map(rule => ({ ...rule, repository: `org/${rule.name}`, key: keys[rule.name].public }));
const folderOf = (stack: string) => join(host.host.stacks, stack);
const web = (more = '') =>
  `services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n    volumes: ["data:/data"]\n${more}volumes:\n  data: {}\n`;

beforeAll(async () => {
  host = new Vault();
  await host.start();
  host.stack(S, { 'compose.yaml': web(), '.env': 'TOKEN=of-the-attacker\n' });
  host.stack(VAULT, { 'compose.yaml': web(), '.env': SECRET });
  for (const stack of [S, VAULT]) {
    const up = await host.run('up', `action: rollout\nstack: ${stack}\n`);
    if (up.code !== 0) throw new Error(up.log);
    const backup = `action: backup\nbackup_type: docker_volumes\nid: of-${stack}\nsource: ${folderOf(stack)}\ndestination: ${host.nas}\n`;
    const stored = await host.run('backup', backup);
    if (stored.code !== 0) throw new Error(stored.log);
  }
  symlinkSync(folderOf(VAULT), join(folderOf(S), 'link'));
  await host.host.stop();
  await host.host.start({ ...host.policy, trust: trust() });
});
afterAll(() => host[Symbol.asyncDispose]());

/** Returns the answer of the agent to a signed command of that entry. */
async function send(intent: object, entry: Entry): Promise<string> {
  const client = new Client(host.host.url);
  const sent = command([intent as Intent], { approval: null });
  const origin = { ...sent.origin, repository: `org/${entry}` };
  await client.send({ ...sent, type: 'plan', origin }, keys[entry].secret);
  const answer = await client.answer();
  await client.end();
  return answer;
}
/** Returns the decision of `chatops policy test` about the same intent, without the agent. */
async function simulate(intent: object, entry: Entry): Promise<string> {
  const file = join(host.dir, 'cases.yaml');
  const one = { name: 'x', entry, intent, expect: 'allowed', merged: true };
  writeFileSync(file, JSON.stringify({ cases: [one] }));
  const { stdout, stderr } = await host.host.chatops(['policy', 'test', file, '--json']);
  try {
    const [result] = JSON.parse(stdout) as { said: string; code: string | null }[];
    return result?.code ?? 'accepted';
  } catch {
    throw new Error(stdout + stderr);
  }
}
const container = (stack: string) =>
  docker('ps', '--quiet', '--filter', `label=com.docker.compose.project=${stack}`).trim();
const mountpoint = (stack: string) =>
  docker('volume', 'inspect', '--format', '{{.Mountpoint}}', `${stack}_data`).trim();
const backup = (more: object) => ({
  ...{ action: 'backup', backup_type: 'docker_volumes', stack: S, destination: host.nas },
  ...more,
});
const restore = (more: object) => ({ action: 'restore', of: `of-${S}`, from: host.nas, stack: S, ...more });
const switchTo = (file: string) => ({
  ...{ action: 'rollout', stack: S, strategy: 'blue-green' },
  switch: { file, text: 'services: {}' },
});

describe('a key for one stack', () => {
  it.each<[string, () => object]>([
    ['a source in its folder', () => backup({ source: join(folderOf(VAULT), 'sub') })],
    ['its folder as source', () => backup({ source: folderOf(VAULT) })],
    ['a link to its folder', () => backup({ source: join(folderOf(S), 'link') })],
    ['all stacks', () => backup({ source: host.host.stacks })],
    ['its volume', () => backup({ source: mountpoint(VAULT) })],
    ['all volumes', () => backup({ source: join(mountpoint(VAULT), '..', '..').replace(/\/$/, '') })],
    ['its container', () => backup({ source_container: `${VAULT}-web-1`, source_path: '/data' })],
    [
      'its container by the first letters of the id',
      () => backup({ source_container: container(VAULT), source_path: '/data' }),
    ],
    [
      'a database in its container',
      () => ({
        action: 'backup',
        database_type: 'mysql',
        source_container: `${VAULT}-web-1`,
        database: 'x',
        destination: host.nas,
        stack: S,
      }),
    ],
    ['its folder as target', () => restore({ to: folderOf(VAULT) })],
    ['a link to its folder as target', () => restore({ to: join(folderOf(S), 'link', 'x') })],
    ['its container as target', () => restore({ to: undefined, to_container: `${VAULT}-web-1`, to_path: '/data' })],
    ['a backup of it', () => restore({ of: `of-${VAULT}`, to: join(folderOf(S), 'x') })],
    ['a drill of a backup of it', () => ({ action: 'drill', of: `of-${VAULT}`, from: host.nas })],
    ['a switch file in its folder', () => switchTo(join(folderOf(VAULT), 'compose.yaml'))],
    ['a switch file behind a link', () => switchTo('link/compose.yaml')],
  ])('does not reach another stack by %s, and "policy test" says so', async (_, make) => {
    const intent = JSON.parse(JSON.stringify(make()));
    const narrow = await send(intent, 'narrow');
    const wide = await send(intent, 'wide');
    expect({ narrow, wide }).toEqual({ narrow: 'stack-not-allowed', wide: 'denied' });
    expect({ narrow: await simulate(intent, 'narrow'), wide: await simulate(intent, 'wide') }).toEqual({
      narrow,
      wide,
    });
    expect(readFileSync(join(folderOf(VAULT), '.env'), 'utf8')).toBe(SECRET);
    expect(readFileSync(join(folderOf(VAULT), 'compose.yaml'), 'utf8')).toBe(web());
    expect(existsSync(join(folderOf(S), 'x'))).toBe(false);
    expect(readdirSync(host.nas).sort()).toEqual([`of-${S}`, `of-${VAULT}`].sort());
  });

  it.each<[string, () => object]>([
    ['its folder', () => backup({ source: folderOf(S) })],
    ['its folder, without naming the stack', () => backup({ stack: undefined, source: folderOf(S) })],
    ['its volume', () => backup({ source: mountpoint(S) })],
    ['its container', () => backup({ source_container: `${S}-web-1`, source_path: '/data' })],
    ['a backup of itself', () => restore({ to: join(folderOf(S), 'x') })],
    ['a switch file of its own', () => switchTo('upstream.conf')],
  ])('reaches its own stack by %s, and "policy test" says so', async (_, make) => {
    const intent = JSON.parse(JSON.stringify(make()));
    for (const entry of ['narrow', 'wide'] as const)
      expect({ agent: await send(intent, entry), test: await simulate(intent, entry) }).toEqual({
        agent: 'accepted',
        test: 'accepted',
      });
  });

  it.each([
    ['missing', 'stack-unresolved'],
    ['of no stack', 'stack-not-allowed'],
  ])('does not reach a container that is %s', async (state, code) => {
    const name = state === 'missing' ? 'nothing-here' : host.container('lonely', 'chatops-test/web:1');
    const intent = backup({ source_container: name, source_path: '/data' });
    expect({ agent: await send(intent, 'narrow'), test: await simulate(intent, 'narrow') }).toEqual({
      agent: code,
      test: code,
    });
  });
});

describe('the password of a database', () => {
  it('does not go to a container of another stack that bears the name, even with the labels of the right one', async () => {
    const name = `shop-db-${process.pid}`;
    const file = join(host.dir, 'password');
    writeFileSync(file, 'p4ssword-of-the-vault\n', { mode: 0o600 });
    const labels = {
      'com.docker.compose.project.working_dir': folderOf(VAULT),
      'com.docker.compose.project': VAULT,
    };
    const text = web(`    container_name: ${name}\n    labels: ${JSON.stringify(labels)}\n`);
    writeFileSync(join(folderOf(S), 'compose.yaml'), text);
    await host.host.stop();
    const databases = [{ server: name, stack: VAULT, password_file: file }];
    await host.host.start({ ...host.policy, trust: trust(), backups: { ...host.policy.backups, databases } });
    const up = await host.run('up', `action: rollout\nstack: ${S}\n`);
    if (up.code !== 0) expect(up.reason).toBe('compose-not-allowed');
    else {
      const taken = await host.run(
        'dump',
        `action: backup\ndatabase_type: mysql\nsource_container: ${name}\ndatabase: x\ndestination: ${host.nas}\n`,
      );
      expect(taken.reason, taken.log).toBe('database-stack');
    }
  });
});
