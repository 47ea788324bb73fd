import { describe, expect, it } from 'vitest';
import type { LoadedIntent } from '../intents/load.ts';
import { generateKey, readPublicKey } from '../protocol/keys.ts';
import { Refused } from '../protocol/refusal.ts';
import { readHosts, targetHostsOf, wavesOf } from './targets.ts';

const key = generateKey().public;
const agentsOf = (tags: Record<string, string[]>) =>
  new Map(Object.entries(tags).map(([host, tags]) => [host, { url: `ws://${host}:1`, key: readPublicKey(key), tags }]));
const document = (hosts: object) =>
  ({ name: 'it', document: 1, file: 'it.yaml', intent: { action: 'rollout', stack: 's', ...hosts } }) as LoadedIntent;
function refusalOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof Refused) return `${error.code}: ${error.message} ${error.refusal.remedy}`;
    throw error;
  }
  return 'admitted';
}

describe('the waves of a fleet', () => {
  const five = ['a', 'b', 'c', 'd', 'e'];

  it.each<[string, string[], number, number | string, string[][]]>([
    ['one host at a time', ['a', 'b'], 0, 1, [['a'], ['b']]],
    ['a number of hosts', five, 0, 2, [['a', 'b'], ['c', 'd'], ['e']]],
    ['canaries first', five, 1, 3, [['a'], ['b', 'c', 'd'], ['e']]],
    ['a share, rounded down', five, 0, '50%', [['a', 'b'], ['c', 'd'], ['e']]],
    ['a share of less than a host', five.slice(0, 2), 0, '10%', [['a'], ['b']]],
    ['more canaries than hosts', ['a'], 3, 1, [['a']]],
  ])('have the size that the intent asks for: %s', (_, hosts, canary, limit, waves) => {
    expect(wavesOf(hosts, canary, limit)).toEqual(waves);
  });
});

describe('the hosts of a document', () => {
  const agents = agentsOf({ 'edge-1': ['edge'], 'edge-2': ['edge'], nas: [] });

  it.each<[string, object, string[][]]>([
    ['the named one', { host: 'nas' }, [['nas']]],
    ['all with a tag, one after another', { hosts: 'tag:edge' }, [['edge-1'], ['edge-2']]],
    ['each only once', { hosts: ['edge-2', 'tag:edge'], max_unavailable: 5 }, [['edge-2', 'edge-1']]],
  ])('are %s', (_, hosts, waves) => {
    expect(targetHostsOf(document(hosts), agents).waves).toEqual(waves);
  });

  it('are the only host if the document names none', () => {
    const found = {
      unnamed: targetHostsOf(document({}), agentsOf({ '': [], nas: [] })).waves,
      only: targetHostsOf(document({}), agentsOf({ nas: [] })).waves,
    };
    expect(found).toEqual({ unnamed: [['']], only: [['nas']] });
  });

  it.each([
    [
      'an unknown name',
      { host: 'edge-9' },
      'An intent names the host "edge-9", which is not in the inputs',
      'Known: edge-1, edge-2, nas.',
    ],
    ['an unknown name in a list', { hosts: ['egde-1'] }, 'An intent names the host "egde-1"', 'Known: edge-1.'],
    [
      'an unknown tag',
      { hosts: 'tag:egde' },
      'An intent names "tag:egde", but no host of the hosts file has that tag',
      'Known: tag:edge.',
    ],
    ['no name among several hosts', {}, 'An intent names no host', 'Write "host: NAME" into the intent.'],
  ])('are refused with the known names: %s', (_, hosts, message, remedy) => {
    const refusal = refusalOf(() => targetHostsOf(document(hosts), agents));
    expect(refusal).toContain(`host-unknown: ${message}`);
    expect(refusal).toContain(remedy);
  });
});

describe('a hosts file', () => {
  it('gives each host its address, key and tags', () => {
    const hosts = readHosts('hosts.yaml', `nas:\n  agent: wss://nas:8443/\n  key: ${key}\n  tags: [big]\n`);
    expect([...hosts].map(([host, { url, key, tags }]) => ({ host, url, key: key.text, tags }))).toEqual([
      { host: 'nas', url: 'wss://nas:8443', key, tags: ['big'] },
    ]);
  });

  it('is refused with its path and the host if a key is invalid', () => {
    expect(refusalOf(() => readHosts('hosts.yaml', 'nas: {agent: "ws://nas:1", key: "ed25519:AA=="}'))).toMatch(
      /^input-invalid: The input "hosts-file" is invalid: hosts\.yaml: .*nas/,
    );
  });
});
