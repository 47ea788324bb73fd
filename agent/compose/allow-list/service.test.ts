import { expect, it } from 'vitest';
import {
  bind,
  config,
  DIR,
  messages,
  type Node,
  network,
  RULES,
  volume,
} from '../../../test/fixtures/rendered-config.ts';
import type { ComposeRules, Opening } from '../../plan/compose-config.ts';
import { checkConfig } from '../check-config.ts';

const withOpening = (opening: Opening): ComposeRules =>
  'grant' in opening
    ? { ...RULES, grants: [opening.grant] }
    : opening.list === 'binds'
      ? { ...RULES, binds: [opening.value], readOnlyBinds: [opening.value.replace(/:ro$/, '')] }
      : { ...RULES, [opening.list]: [opening.value] };

it.each<[string, Node, string, Opening[]]>([
  ['privileged', config({ privileged: true }), 'key "privileged" is true', [{ grant: 'privileged' }]],
  [
    'a privileged hook',
    config({ post_start: [{ command: ['x'], privileged: true }] }),
    'post_start.0.privileged',
    [{ grant: 'privileged' }],
  ],
  ['annotations', config({ annotations: { 'run.oci.handler': 'x' } }), 'key "annotations"', [{ grant: 'privileged' }]],
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
  ['a rule for devices', config({ device_cgroup_rules: ['a *:* rwm'] }), 'device_cgroup_rules', [{ grant: 'devices' }]],
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
])(
  'a part of a service is refused without an exception, and each of the named ones opens it: %s',
  (_, rendered, message, opens) => {
    const about = checkConfig(rendered, RULES).find(one => one.message.includes(message));
    expect(about?.opens, messages(checkConfig(rendered, RULES)).join('\n')).toEqual(opens);
    for (const opening of opens) {
      const rules =
        'list' in opening && opening.list === 'project' ? { ...RULES, project: opening.value } : withOpening(opening);
      const left = messages(checkConfig(rendered, rules));
      expect(left.filter(one => one.includes(message))).toEqual([]);
    }
  },
);
