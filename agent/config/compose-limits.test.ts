import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { composeRulesOf } from './compose-limits.ts';
import { type Config, parseConfig } from './load.ts';

const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const parse = (compose: object, more: object = {}): Config => {
  const allow = [{ actions: ['rollout'], stacks: ['*'] }];
  const trust = [{ name: 'homelab', key: KEY, repository: 'org/homelab', allow }];
  return parseConfig(JSON.stringify({ agent: 'host', trust, compose, ...more }), 'agent.yaml');
};

describe('the limits of a stack', () => {
  it('join those of all stacks with every exception that names it', () => {
    const config = parse({
      binds: ['/srv/all', '/etc/localtime:ro'],
      ports: '8000-9000',
      grants: [
        { stack: 'media', allow: ['nested-binds'], binds: ['/srv/media'], ports: [443, '53-54'], project: 'films' },
        { stack: 'med*', allow: ['nested-binds', 'devices'], binds: ['/srv/photos:ro'], networks: ['proxy'] },
        { stack: 'web', allow: ['privileged'], volumes: ['shared'] },
      ],
    });
    expect(composeRulesOf(config, 'media')).toMatchObject({
      stack: 'media',
      project: 'films',
      dir: '/opt/stacks/media',
      grants: ['nested-binds', 'devices'],
      binds: ['/srv/all', '/srv/media'],
      readOnlyBinds: ['/etc/localtime', '/srv/photos'],
      ports: [
        [8000, 9000],
        [443, 443],
        [53, 54],
      ],
      networks: ['proxy'],
      volumes: [],
      socket: '/var/run/docker.sock',
    });
    expect(composeRulesOf(config, 'Other.Stack')).toMatchObject({ project: 'otherstack', grants: [], networks: [] });
  });

  it('know the projects of the host’s other stacks, and the folders and secrets of the agent', () => {
    const root = mkdtempSync(join(tmpdir(), 'stacks-'));
    try {
      for (const folder of ['media', 'Web', '.git', 'photos']) mkdirSync(join(root, folder));
      writeFileSync(join(root, 'notes'), '');
      const grants = [{ stack: 'photos', project: 'immich' }];
      const hooks = { name: 'push', intent: 'a.yaml', token_file: '/srv/token' };
      const config = parse({ grants }, { stacks: { root }, state_dir: '/srv/agent', hooks: [hooks], trust: TRUST });
      const rules = composeRulesOf(config, 'media');
      expect(rules.others.sort()).toEqual(['immich', 'web']);
      expect(rules.agent).toEqual(expect.arrayContaining(['/etc/chatops', '/srv/agent', '/srv/token']));
      expect(composeRulesOf(parse({}, { stacks: { root: join(root, 'none') } }), 'media').others).toEqual([]);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it.each<[string, object[], string]>([
    ['no exception', [{ stack: 'web' }], 'Expected at least one exception'],
    ['an unknown grant', [{ stack: 'web', allow: ['root'] }], 'compose.grants.0.allow.0'],
    ['all capabilities', [{ stack: 'web', capabilities: ['ALL'] }], 'compose.grants.0.capabilities.0'],
    ['a device outside of /dev', [{ stack: 'web', devices: ['/srv/x'] }], 'compose.grants.0.devices.0'],
    ['a relative path', [{ stack: 'web', binds: ['srv'] }], 'compose.grants.0.binds.0'],
    ['a part of a port range', [{ stack: 'web', ports: ['80-'] }], 'compose.grants.0.ports.0'],
    ['a path to the agent', [{ stack: 'web', binds: ['/var/lib/chatops/runs:ro'] }], 'belongs to the agent'],
    ['a project for a pattern', [{ stack: 'web*', project: 'a' }], 'Expected one stack without "*"'],
    [
      'a project twice',
      [
        { stack: 'web', project: 'a' },
        { stack: 'db', project: 'a' },
      ],
      'Expected another name: "web" has',
    ],
    [
      'the project of another stack',
      [
        { stack: 'web', project: 'db' },
        { stack: 'DB', allow: ['ports'] },
      ],
      '"DB" has',
    ],
  ])('can’t be written with %s', (_, grants, message) => {
    expect(() => parse({ grants })).toThrow(message);
  });

  it('can’t be written with the agent’s folder for all stacks', () => {
    expect(() => parse({ binds: ['/etc/chatops'] })).toThrow('belongs to the agent');
  });
});

const TRUST = [
  { name: 'homelab', key: KEY, repository: 'org/homelab', allow: [{ actions: ['rollout'], stacks: ['*'] }] },
  { name: 'hooks', local: 'webhook', allow: [{ actions: ['rollout'], stacks: ['*'] }] },
];
