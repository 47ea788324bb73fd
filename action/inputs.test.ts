import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { generateKey } from '../protocol/keys.ts';
import { Refused } from '../protocol/refusal.ts';
import { type Inputs, readInputs } from './inputs.ts';

const keys = generateKey();
const agent = generateKey();
const good = { intent: 'web', agent: 'ws://whitebox:8000', 'agent-key': agent.public, 'signing-key': keys.secret };
const env = (inputs: Record<string, string>) =>
  Object.fromEntries(Object.entries(inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]));
const read = (inputs: Record<string, string>) => readInputs(env({ ...good, ...inputs })) as Inputs;
function refusal(inputs: Record<string, string>): string {
  try {
    read(inputs);
  } catch (error) {
    if (error instanceof Refused) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'admitted';
}

describe('the inputs', () => {
  it('have defaults for all that a workflow may leave out', () => {
    expect(read({})).toMatchObject({
      mode: 'run',
      intent: ['web'],
      intentsDir: 'chatops/intents',
      connectTimeout: 30_000,
      timeout: 1_800_000,
      params: {},
    });
  });

  it('name several hosts, one a line', () => {
    const { agents } = read({
      agent: 'box=ws://100.64.0.1:8000\nnas=wss://nas:8443/',
      'agent-key': `box=${agent.public}\nnas=${keys.public}`,
    });
    expect([...agents].map(([host, { url, key }]) => ({ host, url, key: key.text }))).toEqual([
      { host: 'box', url: 'ws://100.64.0.1:8000', key: agent.public },
      { host: 'nas', url: 'wss://nas:8443', key: keys.public },
    ]);
  });

  it.each([
    ['lines', 'tag=1.2\nname=a=b', { tag: '1.2', name: 'a=b' }],
    ['YAML', 'tag: "1.2"\nn: 3\non: true', { tag: '1.2', n: 3, on: true }],
    ['JSON', '{"tag": "x"}', { tag: 'x' }],
  ])('accept params as %s', (_, params, expected) => {
    expect(read({ params }).params).toEqual(expected);
  });

  it('need neither an agent nor a key with mode: validate', () => {
    expect(readInputs(env({ intent: 'web', mode: 'validate' }))).toMatchObject({ mode: 'validate' });
  });

  it.each([
    ['no intent', { intent: ' ' }, 'intent'],
    ['an unknown mode', { mode: 'deploy' }, 'mode'],
    ['an address of HTTP', { agent: 'http://whitebox' }, 'agent'],
    ['an address with a path', { agent: 'ws://whitebox/v1' }, 'agent'],
    ['an address with a password', { agent: 'ws://a:b@whitebox' }, 'agent'],
    ['no agent', { agent: '' }, 'agent'],
    ['no agent key', { 'agent-key': '' }, 'agent-key'],
    ['a secret as agent key', { 'agent-key': keys.secret }, 'agent-key'],
    ['a host without a key', { agent: 'a=ws://a:1\nb=ws://b:1', 'agent-key': `a=${agent.public}` }, 'agent-key'],
    ['a host twice', { agent: 'a=ws://a:1\na=ws://b:1' }, 'agent'],
    ['no signing key', { 'signing-key': '' }, 'signing-key'],
    ['a public key to sign with', { 'signing-key': keys.public }, 'signing-key'],
    ['the id of another key', { 'key-id': agent.id }, 'key-id'],
    ['a wrong duration', { timeout: 'soon' }, 'timeout'],
    ['a wrong connect-timeout', { 'connect-timeout': '30' }, 'connect-timeout'],
    ['a pull request by name', { 'pull-request': 'main' }, 'pull-request'],
    ['params as a list', { params: '[1, 2]' }, 'params'],
    ['params that nest', { params: 'a: {b: 1}' }, 'params'],
  ])('are refused with the name of the input: %s', (_, inputs, name) => {
    expect(refusal(inputs)).toContain(`input-invalid The input "${name}"`);
  });

  it('are never repeated in a refusal if they are secret', () => {
    expect(refusal({ 'signing-key': 'ed25519-secret:c2VjcmV0' })).not.toContain('c2VjcmV0');
  });

  it('and the outputs are those that action.yml documents', () => {
    const { inputs, outputs } = parse(readFileSync('action.yml', 'utf8')) as Record<
      'inputs' | 'outputs',
      Record<string, { description: string }>
    >;
    const source = readFileSync('action/inputs.ts', 'utf8');
    const asked = [...source.matchAll(/(?:read|oneOf|duration)\(env, '([a-z-]+)'/g)].map(([, name]) => name);
    expect(Object.keys(inputs).sort()).toEqual([...new Set(asked)].sort());
    for (const { description } of [...Object.values(inputs), ...Object.values(outputs)])
      expect(description.length).toBeGreaterThan(20);
    const set = [...readFileSync('action/result.ts', 'utf8').matchAll(/setOutput\(\s*'([a-z-]+)'/g)].map(
      ([, name]) => name,
    );
    expect(Object.keys(outputs).sort()).toEqual(set.sort());
  });
});
