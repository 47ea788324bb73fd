import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  bind,
  config,
  DIR,
  messages,
  type Node,
  network,
  port,
  RULES,
  volume,
} from '../../test/fixtures/rendered-config.ts';
import { composeRules } from '../executors/exam.ts';
import { COMPOSE_GRANTS } from '../plan/compose-config.ts';
import { checkConfig } from './check-config.ts';

describe('a rendered config', () => {
  it.each(['everything', 'everything.newer'])('with every harmless key is allowed without an exception: %s', name => {
    const rendered = JSON.parse(readFileSync(`test/fixtures/rendered/${name}.json`, 'utf8'));
    expect(checkConfig(rendered, composeRules('everything'))).toEqual([]);
    expect(checkConfig(rendered, composeRules('other')).length).toBeGreaterThan(0);
  });

  it.each<[string, Node, string]>([
    ['a new key of a service', config({ teleport: true }), 'service web: key "teleport" is unknown'],
    [
      'a new key of a mount',
      config(bind(`${DIR}/x`, { driver: 'x' })),
      'service web: key "volumes.0.driver" is unknown',
    ],
    ['a new key of a port', port({ published: '8080', via: 'x' }), 'service web: key "ports.0.via" is unknown'],
    ['a new key of deploy', config({ deploy: { resources: { limits: { gpu: 1 } } } }), 'deploy.resources.limits.gpu'],
    ['a new key of a build', config({ build: { context: '.', host: 'x' } }), 'key "build.host" is unknown'],
    ['a new key of a network', network({ tunnel: {} }), 'network default: key "tunnel" is unknown'],
    ['a new key of the top level', config({}, { engines: {} }), 'compose file: key "engines" is unknown'],
    ['a key that objects inherit', config({ constructor: {} }), 'key "constructor" is unknown'],
    ['another letter case of a key', config({ Privileged: true }), 'key "Privileged" is unknown'],
    ['an extension inside of a service', config({ 'x-lifecycle': 'a' }), 'key "x-lifecycle" is unknown'],
    ['an extension that holds the value of a secret', config({}, { secrets: { s: { 'x-#value': 'a' } } }), 'x-#value'],
    ['a program of the host', config({ provider: { type: './run.sh' } }), 'key "provider" is not allowed'],
    ['models', config({ models: { m: {} } }, { models: { m: { model: 'x' } } }), 'key "models" is not allowed'],
    ['containers before the start', config({ pre_start: [{ command: ['x'] }] }), 'key "pre_start" is not allowed'],
    ['files that compose would read later', config({ env_file: [{ path: '/etc/shadow' }] }), 'key "env_file"'],
    ['the label file', config({ label_file: ['/etc/shadow'] }), 'key "label_file"'],
    ['an include', config({}, { include: ['/etc/x'] }), 'compose file: key "include"'],
    ['a mount of an image', config({ volumes: [{ type: 'image', source: 'x', target: '/x' }] }), 'volumes.0.type'],
    ['a mount of a pipe', config({ volumes: [{ type: 'npipe', source: 'x', target: '/x' }] }), 'volumes.0.type'],
    ['a volume of swarm', config({ volumes: [{ type: 'cluster', source: 'x', target: '/x' }] }), 'volumes.0.type'],
    ['volumes of a container', config({ volumes_from: ['container:victim'] }), 'key "volumes_from.0"'],
    ['a cgroup of the host', config({ cgroup_parent: '/system.slice' }), 'key "cgroup_parent"'],
    ['the program of a runtime', config({ runtime: '/opt/stacks/app/shim' }), 'key "runtime"'],
    [
      'a kernel setting of the host',
      config({ sysctls: { 'kernel.core_pattern': '|/x' } }),
      'sysctls.kernel.core_pattern',
    ],
    ['the file of a seccomp profile', config({ security_opt: ['seccomp:./open.json'] }), 'key "security_opt.0"'],
    ['labels of compose', config({ labels: { 'com.docker.compose.project': 'victim' } }), 'compose sets these labels'],
    [
      'labels of compose at volumes',
      volume({}, { labels: { 'com.docker.compose.volume': 'x' } }),
      'compose sets these',
    ],
    ['options of the storage driver', config({ storage_opt: { 'dm.basesize': '1G' } }), 'storage_opt.dm.basesize'],
    ['options of a tmpfs', config({ tmpfs: ['/x:lowerdir=/etc'] }), 'key "tmpfs.0"'],
    ['a credential file', config({ credential_spec: { file: '/etc/shadow' } }), 'key "credential_spec"'],
    ['another isolation', config({ isolation: 'hyperv' }), 'key "isolation"'],
    ['a secret of swarm', config({}, { secrets: { s: { name: 's', external: true } } }), 'secret s: key "external"'],
    ['a driver of secrets', config({}, { secrets: { s: { driver: 'x' } } }), 'secret s: key "driver"'],
    [
      'a template of configs',
      config({}, { configs: { c: { template_driver: 'x' } } }),
      'config c: key "template_driver"',
    ],
    ['the agent’s folder', config(bind('/var/lib/chatops/runs')), 'which belongs to the agent'],
    [
      'the agent’s key as a secret',
      config({}, { secrets: { s: { file: '/var/lib/chatops/agent.key' } } }),
      'belongs to the',
    ],
    ['".." in a path', config(bind(`${DIR}/link/../../x`)), 'is not an absolute path without ".."'],
    ['a variable in a path', config(bind(`${DIR}/$$x`)), 'is not an absolute path without'],
    ['a relative path', config(bind('x')), 'is not an absolute path'],
    ['a variable that is replaced later', config({ command: ['$X'] }), 'has a variable that is not replaced'],
    ['a type that is not rendered', config({ privileged: 'true' }), 'key "privileged"'],
    ['a service of another file', config({ network_mode: 'service:db' }), 'which the file does not have'],
    ['a name with other letters', config({}, { volumes: { '../x': {} } }), 'has a name with other letters'],
    ['a relative folder as a volume', volume({ type: 'none', o: 'bind', device: 'etc' }), 'is not an absolute path'],
    ['a part of a port range', port({ published: '0-22' }), 'is not a port or a range'],
    ['no project', { services: {} }, 'compose file: has no project name'],
    ['no map', [] as unknown as Node, 'compose file: is not a map'],
  ])('is refused, and no exception opens it: %s', (_, rendered, message) => {
    const every = messages(checkConfig(rendered, RULES));
    expect(every.join('\n')).toContain(message);
    const all = { ...RULES, grants: COMPOSE_GRANTS, binds: ['/'], devices: ['/dev'] };
    expect(messages(checkConfig(rendered, all)).join('\n')).toContain(message);
    const about = checkConfig(rendered, all).find(one => one.message.includes(message));
    expect(about?.opens).toEqual([]);
  });

  it('may name only what is its own if another project’s name starts with its name', () => {
    const named = (name: string, others: string[]) => checkConfig(volume({}, { name }), { ...RULES, others });
    expect(named('app_media_db', [])).toEqual([]);
    expect(named('app_media_db', ['app_media'])).not.toEqual([]);
    expect(named('app_mediadb', ['app_media'])).toEqual([]);
    expect(messages(checkConfig(config({}), { ...RULES, others: ['app'] }))).toEqual([
      'compose file: key "name" is "app", which is the project of another stack too',
    ]);
  });

  it('may mount one folder in several containers, because a container can’t replace the root of its mount', () => {
    const twice = { ...config(bind(`${DIR}/a`)) };
    (twice.services as Node).second = { image: 'x', ...bind(`${DIR}/a`) };
    expect(checkConfig(twice, RULES)).toEqual([]);
    const readOnly = config({
      volumes: [...bind(`${DIR}/a`, { read_only: true }).volumes, ...bind(`${DIR}/a/b`).volumes],
    });
    expect(checkConfig(readOnly, RULES)).toEqual([]);
  });

  it('shows no value of an environment, of a volume’s options or of a config in a message', () => {
    const rendered: Node = {
      ...volume({ type: 'cifs', device: '//x/y', o: 'password=hidden-1,credentials=/x' }),
      configs: { c: { content: 'hidden-2 $X' } },
    };
    (rendered.services as { web: Node }).web.environment = { A: ['hidden-3'], B: 'hidden-4 $X' };
    const found = messages(checkConfig(rendered, RULES));
    expect(found).toHaveLength(4);
    expect(found.join('\n')).not.toContain('hidden');
  });
});
