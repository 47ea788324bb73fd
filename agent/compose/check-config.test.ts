import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { composeRules } from '../executors/exam.ts';
import { COMPOSE_GRANTS, type ComposeRules, type Opening } from '../plan/compose-config.ts';
import { checkConfig } from './check-config.ts';
import { listMounts } from './list-mounts.ts';

type Node = Record<string, unknown>;

const RULES = composeRules('app');
const DIR = '/opt/stacks/app';

/** A config as compose renders it, with more keys of its service `web` and of its top level. */
const config = (web: Node, top: Node = {}): Node => ({
  name: 'app',
  services: { web: { command: null, entrypoint: null, image: 'local/test:1', networks: { default: null }, ...web } },
  networks: { default: { name: 'app_default', ipam: {} } },
  ...top,
});
const bind = (source: string, more: Node = {}) => ({
  volumes: [{ type: 'bind', source, target: '/x', bind: { create_host_path: true }, ...more }],
});
const volume = (driver_opts: Node, more: Node = {}) =>
  config(
    { volumes: [{ type: 'volume', source: 'v', target: '/v', volume: {} }] },
    { volumes: { v: { name: 'app_v', driver_opts, ...more } } },
  );
const network = (more: Node) => config({}, { networks: { default: { name: 'app_default', ipam: {}, ...more } } });
const port = (more: Node) => config({ ports: [{ mode: 'ingress', target: 80, protocol: 'tcp', ...more }] });

const messages = (found: ReturnType<typeof checkConfig>) => found.map(({ message }) => message);
const withOpening = (opening: Opening): ComposeRules =>
  'grant' in opening
    ? { ...RULES, grants: [opening.grant] }
    : opening.list === 'binds'
      ? { ...RULES, binds: [opening.value], readOnlyBinds: [opening.value.replace(/:ro$/, '')] }
      : { ...RULES, [opening.list]: [opening.value] };

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

  it.each<[string, Node, string, Opening[]]>([
    ['privileged', config({ privileged: true }), 'key "privileged" is true', [{ grant: 'privileged' }]],
    [
      'a privileged hook',
      config({ post_start: [{ command: ['x'], privileged: true }] }),
      'post_start.0.privileged',
      [{ grant: 'privileged' }],
    ],
    [
      'annotations',
      config({ annotations: { 'run.oci.handler': 'x' } }),
      'key "annotations"',
      [{ grant: 'privileged' }],
    ],
    [
      'a capability',
      config({ cap_add: ['CAP_NET_ADMIN'] }),
      'adds the capability NET_ADMIN',
      [{ list: 'capabilities', value: 'NET_ADMIN' }, { grant: 'capabilities' }],
    ],
    ['all capabilities', config({ cap_add: ['ALL'] }), 'adds the capability ALL', [{ grant: 'capabilities' }]],
    ['seccomp', config({ security_opt: ['seccomp:unconfined'] }), 'security_opt.0', [{ grant: 'capabilities' }]],
    ['SELinux', config({ security_opt: ['label:type:spc_t'] }), 'security_opt.0', [{ grant: 'capabilities' }]],
    [
      'the host’s network',
      config({ network_mode: 'host' }),
      'key "network_mode" is the host’s',
      [{ grant: 'host-namespaces' }],
    ],
    ['the host’s processes', config({ pid: 'host' }), 'key "pid" is the host’s', [{ grant: 'host-namespaces' }]],
    ['the host’s IPC', config({ ipc: 'host' }), 'key "ipc" is the host’s', [{ grant: 'host-namespaces' }]],
    ['the host’s UTS', config({ uts: 'host' }), 'key "uts" is the host’s', [{ grant: 'host-namespaces' }]],
    [
      'the host’s users',
      config({ userns_mode: 'host' }),
      'key "userns_mode" is the host’s',
      [{ grant: 'host-namespaces' }],
    ],
    ['the host’s cgroups', config({ cgroup: 'host' }), 'key "cgroup" is the host’s', [{ grant: 'host-namespaces' }]],
    [
      'the host’s network by name',
      network({ name: 'host', external: true }),
      'key "name" is the host’s network',
      [{ grant: 'host-namespaces' }],
    ],
    [
      'shared mounts',
      config(bind(`${DIR}/x`, { bind: { propagation: 'rshared' } })),
      'shares mounts',
      [{ grant: 'host-namespaces' }],
    ],
    [
      'the processes of another container',
      config({ pid: 'container:victim' }),
      'joins the container victim',
      [{ list: 'containers', value: 'victim' }],
    ],
    [
      'the network of another container',
      config({ network_mode: 'container:victim' }),
      'joins the container victim',
      [{ list: 'containers', value: 'victim' }],
    ],
    [
      'a link to another container',
      config({ external_links: ['victim:db'] }),
      'joins the container victim',
      [{ list: 'containers', value: 'victim' }],
    ],
    [
      'a network as the mode',
      config({ network_mode: 'victim_default' }),
      'names victim_default',
      [{ list: 'networks', value: 'victim_default' }],
    ],
    [
      'a network of another stack',
      network({ name: 'victim_default', external: true }),
      'names victim_default',
      [{ list: 'networks', value: 'victim_default' }],
    ],
    [
      'a volume of another stack',
      volume({}, { name: 'victim_db', external: true }),
      'names victim_db',
      [{ list: 'volumes', value: 'victim_db' }],
    ],
    ['a volume by another name', volume({}, { name: 'data' }), 'names data', [{ list: 'volumes', value: 'data' }]],
    ['macvlan', network({ driver: 'macvlan' }), 'key "driver" is another driver', [{ grant: 'network-drivers' }]],
    [
      'a bridge of the host',
      network({ driver_opts: { 'com.docker.network.bridge.name': 'br0' } }),
      'driver_opts',
      [{ grant: 'network-drivers' }],
    ],
    [
      'a public subnet',
      network({ ipam: { config: [{ subnet: '140.82.112.0/20' }] } }),
      'is not a private subnet',
      [{ grant: 'network-drivers' }],
    ],
    [
      'a wide subnet',
      network({ ipam: { config: [{ subnet: '10.0.0.0/4' }] } }),
      'is not a private subnet',
      [{ grant: 'network-drivers' }],
    ],
    ['a driver of volumes', volume({}, { driver: 'rclone' }), 'is another driver', [{ grant: 'volume-drivers' }]],
    [
      'overlay',
      volume({ type: 'overlay', o: 'lowerdir=/etc,upperdir=/etc', device: 'overlay' }),
      'mounts overlay',
      [{ grant: 'volume-drivers' }],
    ],
    ['a disk', volume({ type: 'ext4', device: '/dev/vda' }), 'mounts ext4', [{ grant: 'volume-drivers' }]],
    ['proc', volume({ type: 'proc', device: 'proc' }), 'mounts proc', [{ grant: 'volume-drivers' }]],
    ['cgroups', volume({ type: 'cgroup2', device: 'cgroup2' }), 'mounts cgroup2', [{ grant: 'volume-drivers' }]],
    [
      'a share',
      volume({ type: 'nfs', o: 'addr=192.0.2.1,ro', device: ':/x' }),
      'mounts a share (nfs)',
      [{ grant: 'shares' }, { grant: 'volume-drivers' }],
    ],
    [
      'a file of credentials for a share',
      volume({ type: 'cifs', o: 'credentials=/etc/shadow', device: '//x/y' }),
      'mounts cifs',
      [{ grant: 'volume-drivers' }],
    ],
    [
      'a folder of the host as a volume',
      volume({ type: 'none', o: 'rbind', device: '/srv/x' }),
      'binds /srv/x',
      [{ list: 'binds', value: '/srv/x' }, { grant: 'binds' }],
    ],
    [
      'a folder of the host',
      config(bind('/srv/x')),
      'binds /srv/x',
      [{ list: 'binds', value: '/srv/x' }, { grant: 'binds' }],
    ],
    [
      'a folder of the host, read-only',
      config(bind('/srv/x', { read_only: true })),
      'binds /srv/x',
      [{ list: 'binds', value: '/srv/x:ro' }, { grant: 'binds' }],
    ],
    [
      'a folder whose name starts alike',
      config(bind(`${DIR}-2/x`)),
      'app-2/x',
      [{ list: 'binds', value: `${DIR}-2/x` }, { grant: 'binds' }],
    ],
    [
      'the file of a secret',
      config({}, { secrets: { s: { file: '/srv/s' } } }),
      'secret s: key "file" binds /srv/s',
      [{ list: 'binds', value: '/srv/s:ro' }, { grant: 'binds' }],
    ],
    [
      'the file of a config',
      config({}, { configs: { c: { file: '/srv/c' } } }),
      'config c: key "file" binds /srv/c',
      [{ list: 'binds', value: '/srv/c:ro' }, { grant: 'binds' }],
    ],
    [
      'a folder below a written one',
      config({ volumes: [...bind(`${DIR}/a`).volumes, ...bind(`${DIR}/a/b`).volumes] }),
      'mounts /opt/stacks/app/a/b, which is in /opt/stacks/app/a',
      [{ grant: 'nested-binds' }],
    ],
    [
      'a secret in a written folder',
      config(bind(`${DIR}/a`), { secrets: { s: { file: `${DIR}/a/s` } } }),
      'secret s: key "file" mounts',
      [{ grant: 'nested-binds' }],
    ],
    [
      'the engine’s socket',
      config(bind('/var/run/docker.sock', { read_only: true })),
      'by which the engine is controlled',
      [{ grant: 'docker-socket' }],
    ],
    [
      'its other name',
      config(bind('//run//docker.sock')),
      'by which the engine is controlled',
      [{ grant: 'docker-socket' }],
    ],
    [
      'containerd',
      config(bind('/run/containerd/containerd.sock')),
      'by which the engine is controlled',
      [{ grant: 'docker-socket' }],
    ],
    ['the API for a service', config({ use_api_socket: true }), 'key "use_api_socket"', [{ grant: 'docker-socket' }]],
    [
      'a device',
      config({ devices: [{ source: '/dev/dri', target: '/dev/dri', permissions: 'rwm' }] }),
      'uses the device /dev/dri',
      [{ list: 'devices', value: '/dev/dri' }, { grant: 'devices' }],
    ],
    [
      'a rule for devices',
      config({ device_cgroup_rules: ['a *:* rwm'] }),
      'device_cgroup_rules',
      [{ grant: 'devices' }],
    ],
    ['GPUs', config({ gpus: [{ count: -1 }] }), 'key "gpus"', [{ grant: 'devices' }]],
    [
      'reserved devices',
      config({ deploy: { resources: { reservations: { devices: [{ capabilities: ['gpu'] }] } } } }),
      'reserves devices',
      [{ grant: 'devices' }],
    ],
    ['another runtime', config({ runtime: 'nvidia' }), 'key "runtime" is another', [{ grant: 'devices' }]],
    ['a low score', config({ oom_score_adj: -1000 }), 'key "oom_score_adj"', [{ grant: 'resources' }]],
    ['no end without memory', config({ oom_kill_disable: true }), 'key "oom_kill_disable"', [{ grant: 'resources' }]],
    ['real-time scheduling', config({ cpu_rt_runtime: 900000 }), 'key "cpu_rt_runtime"', [{ grant: 'resources' }]],
    ['a real-time limit', config({ ulimits: { rtprio: 99 } }), 'key "ulimits.rtprio"', [{ grant: 'resources' }]],
    [
      'limits of block devices',
      config({ blkio_config: { device_read_bps: [{ path: '/dev/vda', rate: '1' }] } }),
      'device_read_bps',
      [{ grant: 'resources' }],
    ],
    [
      'logs for another host',
      config({ logging: { driver: 'syslog' } }),
      'key "logging.driver" is syslog',
      [{ grant: 'log-drivers' }],
    ],
    [
      'an address for logs',
      config({ logging: { options: { 'syslog-address': 'tcp://x' } } }),
      'logging.options.syslog-address',
      [{ grant: 'log-drivers' }],
    ],
    ['another project', config({}, { name: 'victim' }), 'key "name" is victim', [{ list: 'project', value: 'victim' }]],
  ])('is refused without an exception, and each of the named ones opens it: %s', (_, rendered, message, opens) => {
    const about = checkConfig(rendered, RULES).find(one => one.message.includes(message));
    expect(about?.opens, messages(checkConfig(rendered, RULES)).join('\n')).toEqual(opens);
    for (const opening of opens) {
      const rules =
        'list' in opening && opening.list === 'project' ? { ...RULES, project: opening.value } : withOpening(opening);
      const left = messages(checkConfig(rendered, rules));
      expect(left.filter(one => one.includes(message))).toEqual([]);
    }
  });

  it('needs more than a list for folders by which the host is controlled', () => {
    const allowed = (source: string, more: Node, rules: Partial<ComposeRules>) =>
      checkConfig(config(bind(source, more)), { ...RULES, binds: ['/'], ...rules }).length === 0;
    for (const parent of ['/', '/run', '/var/run', '/var/lib', '/var/lib/docker', '/var/lib/docker/overlay2/x']) {
      expect(allowed(parent, { read_only: true }, {}), parent).toBe(false);
      expect(allowed(parent, { read_only: true }, { grants: ['binds'] }), parent).toBe(false);
      expect(allowed(parent, { read_only: true }, { grants: ['docker-socket'] }), parent).toBe(true);
    }
    for (const kernel of ['/proc', '/sys', '/proc/sys/kernel', '/sys/fs/cgroup']) {
      expect(allowed(kernel, { read_only: true }, {}), kernel).toBe(true);
      expect(allowed(kernel, {}, {}), kernel).toBe(false);
      expect(allowed(kernel, {}, { grants: ['privileged'] }), kernel).toBe(true);
    }
    expect(allowed('/var/lib/docker/volumes/x', {}, {})).toBe(true);
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

  it.each<[Node, [number, number][], boolean]>([
    [{ published: '8080' }, [[8000, 9000]], true],
    [{ published: '8080-8090' }, [[8000, 9000]], true],
    [{ published: '8990-9001' }, [[8000, 9000]], false],
    [{ published: '22', mode: 'host' }, [[8000, 9000]], false],
    [{ published: '0x16' }, [[1, 65_535]], false],
    [{ published: '70000' }, [[1, 65_535]], false],
    [
      { published: '53' },
      [
        [8000, 9000],
        [53, 53],
      ],
      true,
    ],
    [{ published: '0' }, [[8000, 9000]], false],
    [{}, [[8000, 9000]], false],
    [{}, [[1, 65_535]], true],
  ])(
    'may publish ports of the host’s ranges, and those that the engine chooses if all are allowed: %j %j',
    (more, ports, ok) => {
      expect(checkConfig(port(more), { ...RULES, ports }).length === 0).toBe(ok);
    },
  );

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

describe('the mounts of a config', () => {
  it('are its binds, its volumes that are folders, and the files of its configs and secrets', () => {
    const web = {
      volumes: [...bind(`${DIR}/a`).volumes, { type: 'volume', source: 'v', target: '/v', read_only: true }],
    };
    const rendered = config(
      { ...web, secrets: [{ source: 's' }] },
      {
        volumes: { v: { name: 'app_v', driver_opts: { type: 'none', o: 'bind', device: '/srv/v' } } },
        secrets: { s: { file: `${DIR}/s` } },
        configs: { c: { file: '/srv/c' } },
      },
    );
    (rendered.services as Node).second = { image: 'x', ...bind(`${DIR}/a`, { read_only: true, bind: {} }) };
    const rules = { ...RULES, readOnlyBinds: ['/srv'] };
    expect(listMounts(rendered, rules)).toEqual([
      { kind: 'bind', services: ['web', 'second'], source: `${DIR}/a`, root: DIR, writable: true, create: true },
      { kind: 'bind', services: ['web'], source: '/srv/v', root: '/srv', writable: false, create: false },
      { kind: 'config', services: [], source: '/srv/c', root: '/srv', writable: false, create: false },
      { kind: 'secret', services: ['web'], source: `${DIR}/s`, root: DIR, writable: false, create: false },
    ]);
  });
});
