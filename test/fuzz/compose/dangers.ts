import { normalize } from 'node:path/posix';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ComposeGrant, ComposeRules } from '../../../agent/plan/compose-config.ts';
import { isNode, type Node } from './generate.ts';
import { specification } from './specification.ts';

/** Bounds and missing keys reach nothing: compose refuses them. */
const BOUNDS = ['required', 'minimum', 'maximum', 'uniqueItems'];
const withoutBounds = JSON.parse(JSON.stringify(specification), (key, value) =>
  BOUNDS.includes(key) && !(typeof value === 'object' && !Array.isArray(value)) ? undefined : value,
) as object;
const isOfSpecification = new Ajv2020({ strict: false, allowUnionTypes: true }).compile(withoutBounds);

const DEFAULTS =
  'AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'.split(
    ' ',
  );

/**
 * Lists what in a config reaches past its stack. It shares no code with the allow-list: it knows the dangers, as the
 * allow-list knows the harmless values.
 */
export function listDangers(config: Node, rules: ComposeRules): string[] {
  const found: string[] = [];
  const danger = (is: unknown, text: string, ...grants: ComposeGrant[]) => {
    if (is && !grants.some(grant => rules.grants.includes(grant))) found.push(text);
  };
  danger(!isOfSpecification(config), `is not of the specification: ${JSON.stringify(isOfSpecification.errors?.[0])}`);
  danger(config.name !== rules.project, 'has another project');
  danger(config.models || config.include, 'has models or includes');
  danger(/(^|[^$])(\$\$)*\$([^$]|$)/.test(textsOf(config).join('\n')), 'has a variable');

  const services = entriesOf(config.services);
  const names = services.map(([name]) => name);
  const path = (source: unknown, writable: boolean) => {
    const text = String(source);
    const clean =
      normalize(text)
        .replace(/\/+$/, '')
        .replace(/^\/var\/run(?=\/|$)/, '/run') || '/';
    const within = (root: string) => clean === root || clean.startsWith(root === '/' ? '/' : `${root}/`);
    const above = (inner: string) => inner === clean || inner.startsWith(clean === '/' ? '/' : `${clean}/`);
    const isSocket = /\/(docker|containerd|podman)\.sock$/.test(clean);
    danger(
      !text.startsWith('/') ||
        (clean !==
          normalize(`/${text}`)
            .replace(/\/+$/, '')
            .replace(/^\/var\/run(?=\/|$)/, '/run') &&
          clean !== '/') ||
        text.split('/').includes('..'),
      `mounts the odd path ${text}`,
    );
    danger(within('/var/lib/chatops') || within('/etc/chatops'), `mounts the agent by ${text}`);
    danger(
      isSocket ||
        ['/run/docker.sock', '/var/lib/chatops', '/etc/chatops', '/var/lib/docker', '/run/containerd'].some(above) ||
        (within('/var/lib/docker') && !within('/var/lib/docker/volumes')) ||
        within('/run/docker') ||
        within('/run/containerd'),
      `mounts the engine or the agent by ${text}`,
      'docker-socket',
    );
    danger(
      writable && (within('/proc') || within('/sys') || clean === '/'),
      `writes the kernel by ${text}`,
      'privileged',
    );
    const roots = [rules.dir, ...rules.binds, ...(writable ? [] : rules.readOnlyBinds)];
    danger(!roots.some(within) && !(isSocket && rules.grants.includes('docker-socket')), `mounts ${text}`, 'binds');
  };

  for (const [name, service] of services) {
    const has = (key: string) => service[key] !== undefined && service[key] !== false && !isEmpty(service[key]);
    danger(service.privileged, 'is privileged', 'privileged');
    danger(
      entriesOf(service.post_start)
        .concat(entriesOf(service.pre_stop))
        .some(([, hook]) => hook.privileged),
      'has a privileged hook',
      'privileged',
    );
    danger(has('annotations'), 'has annotations', 'privileged');
    for (const key of [
      'provider',
      'models',
      'pre_start',
      'env_file',
      'label_file',
      'extends',
      'credential_spec',
      'cgroup_parent',
    ])
      danger(service[key] !== undefined, `has ${key}`);
    danger(service.use_api_socket, 'uses the API', 'docker-socket');
    for (const added of listOf(service.cap_add).map(one => String(one).toUpperCase().replace(/^CAP_/, '')))
      danger(!DEFAULTS.includes(added) && !rules.capabilities.includes(added), `adds ${added}`, 'capabilities');
    for (const option of listOf(service.security_opt)) {
      danger(!String(option).startsWith('no-new-privileges'), `has ${option}`, 'capabilities');
      danger(/\.json|\//.test(String(option)), 'reads a profile');
    }
    for (const key of ['network_mode', 'pid', 'ipc', 'uts', 'userns_mode', 'cgroup']) {
      const value = String(service[key] ?? '');
      danger(value === 'host', `${key} is host`, 'host-namespaces');
      danger(value.startsWith('container:') && !rules.containers.includes(value.slice(10)), `${key} is ${value}`);
      danger(value.startsWith('service:') && !names.includes(value.slice(8)), `${key} is ${value}`);
      danger(
        key === 'network_mode' &&
          !/^(|none|bridge|default|host|(service|container):.*)$/.test(value) &&
          !isOwn(value, rules) &&
          !rules.networks.includes(value),
        `joins ${value}`,
      );
    }
    for (const link of listOf(service.external_links))
      danger(!rules.containers.includes(String(link).split(':')[0] ?? ''), `links to ${link}`);
    danger(
      listOf(service.volumes_from).some(from => !names.includes(String(from).split(':')[0] ?? '')),
      'takes volumes',
    );
    for (const device of listOf(service.devices)) {
      const source = isNode(device) ? String(device.source) : String(device);
      danger(!rules.devices.some(one => source === one || source.startsWith(`${one}/`)), `uses ${source}`, 'devices');
    }
    danger(has('device_cgroup_rules') || has('gpus'), 'uses devices', 'devices');
    danger(
      !isEmpty(at(service, 'deploy', 'resources', 'reservations', 'devices') ?? []),
      'reserves devices',
      'devices',
    );
    danger(service.runtime && service.runtime !== 'runc', 'has a runtime', 'devices');
    danger(/[/.]/.test(String(service.runtime ?? '')), 'has the program of a runtime');
    danger(
      Object.keys((service.sysctls as Node) ?? {}).some(
        key => !/^(net\.|fs\.mqueue\.|kernel\.(msg|sem|shm))/.test(key),
      ),
      'sets the kernel',
    );
    danger(Number(service.oom_score_adj ?? 0) < 0 || service.oom_kill_disable, 'escapes the end', 'resources');
    danger(
      Number(service.cpu_rt_runtime ?? 0) !== 0 || Number(service.cpu_rt_period ?? 0) !== 0,
      'is real-time',
      'resources',
    );
    danger(
      Object.keys((service.ulimits as Node) ?? {}).some(key => /^rt|nice/.test(key)),
      'has limits',
      'resources',
    );
    danger(
      Object.entries((service.blkio_config as Node) ?? {}).some(
        ([key, list]) => key.includes('device') && !isEmpty(list),
      ),
      'limits devices',
      'resources',
    );
    danger(
      !['', 'json-file', 'local', 'journald', 'none'].includes(String(at(service, 'logging', 'driver') ?? '')),
      'sends logs',
      'log-drivers',
    );
    danger(
      /address|url|endpoint|ca/.test(
        Object.keys((at(service, 'logging', 'options') as Node) ?? {})
          .filter(key => key !== 'labels')
          .join(),
      ),
      'sends logs to an address',
      'log-drivers',
    );
    danger(
      Object.keys((service.storage_opt as Node) ?? {}).some(key => key !== 'size'),
      'has options of the storage',
    );
    danger(service.isolation && service.isolation !== 'default', 'has another isolation');
    danger(
      listOf(service.tmpfs).some(one => /lowerdir|upperdir|bind/.test(String(one))),
      'has options of tmpfs',
    );
    for (const port of listOf(service.ports)) {
      // The engine chooses any port if none is named.
      const published = isNode(port) ? String(port.published ?? '0') : '0';
      const [from = 0, to = from] = (['', '0'].includes(published) ? '1-65535' : published).split('-').map(Number);
      danger(
        !rules.ports.some(([lowest, highest]) => from >= lowest && to <= highest && from <= to),
        `publishes ${from}-${to}`,
        'ports',
      );
    }
    for (const mount of listOf(service.volumes).filter(isNode)) {
      danger(!['bind', 'volume', 'tmpfs'].includes(String(mount.type)), `mounts a ${mount.type}`);
      if (mount.type === 'bind') path(mount.source, mount.read_only !== true);
      danger(/shared/.test(String(at(mount, 'bind', 'propagation') ?? '')), 'shares mounts', 'host-namespaces');
      danger(String(at(mount, 'volume', 'subpath') ?? '').includes('..'), 'leaves a volume');
    }
    for (const key of ['labels', 'annotations'])
      danger(hasOwnLabel(service[key]), `service ${name} has labels of compose`);
    for (const [, attached] of entriesOf(service.networks))
      danger(!isEmpty(attached.driver_opts ?? {}), 'has options of a network', 'network-drivers');
  }
  for (const [key, network] of entriesOf(config.networks)) {
    const named = String(network.name ?? (network.external ? key : `${rules.project}_${key}`));
    danger(named === 'host', 'is the network of the host', 'host-namespaces');
    danger(
      !['host', 'none'].includes(named) && !isOwn(named, rules) && !rules.networks.includes(named),
      `is the network ${named}`,
    );
    danger(network.driver && network.driver !== 'bridge', 'has another network', 'network-drivers');
    danger(
      at(network, 'ipam', 'driver') && at(network, 'ipam', 'driver') !== 'default',
      'has addresses',
      'network-drivers',
    );
    danger(!isEmpty(at(network, 'ipam', 'options') ?? {}), 'has options of addresses', 'network-drivers');
    danger(
      Object.keys((network.driver_opts as Node) ?? {}).some(option => !/mtu|icc/.test(option)),
      'has network options',
      'network-drivers',
    );
    for (const one of listOf(at(network, 'ipam', 'config')).filter(isNode))
      danger(
        one.subnet !== undefined && !/^(10|172|192\.168|fd|fc)/.test(String(one.subnet)),
        `takes ${one.subnet}`,
        'network-drivers',
      );
    danger(hasOwnLabel(network.labels), 'has labels of compose');
  }
  for (const [key, volume] of entriesOf(config.volumes)) {
    const named = String(volume.name ?? (volume.external ? key : `${rules.project}_${key}`));
    danger(!isOwn(named, rules) && !rules.volumes.includes(named), `is the volume ${named}`);
    danger(volume.driver && volume.driver !== 'local', 'has a driver', 'volume-drivers');
    danger(hasOwnLabel(volume.labels), 'has labels of compose');
    const { type = '', o = '', device } = (volume.driver_opts ?? {}) as Node;
    if (/(^|,)r?bind(,|$)/.test(String(o)) && !rules.grants.includes('volume-drivers'))
      path(device, !/(^|,)ro(,|$)/.test(String(o)));
    else if (/^(nfs4?|cifs|smb3)$/.test(String(type))) {
      danger(true, 'mounts a share', 'shares', 'volume-drivers');
      danger(/cred[a-z]*=/.test(String(o)) && String(o).includes('/'), 'reads a file for a share', 'volume-drivers');
    } else danger(!isEmpty(volume.driver_opts ?? {}) && type !== 'tmpfs', `mounts ${type}`, 'volume-drivers');
  }
  for (const room of ['configs', 'secrets'])
    for (const [, one] of entriesOf(config[room])) {
      if (one.file !== undefined) path(one.file, false);
      danger(one.external || one.driver || one.driver_opts || one.template_driver, 'is of swarm');
      danger(hasOwnLabel(one.labels), 'has labels of compose');
    }
  return found;
}

function isOwn(name: string, { project }: ComposeRules): boolean {
  return name.startsWith(`${project}_`);
}

function hasOwnLabel(labels: unknown): boolean {
  return isNode(labels) && Object.keys(labels).some(label => /^com\.docker\.compose/i.test(label));
}

function at(node: Node, ...keys: string[]): unknown {
  return keys.reduce<unknown>((below, key) => (isNode(below) ? below[key] : undefined), node);
}

function entriesOf(value: unknown): [string, Node][] {
  return Object.entries(value ?? {}).filter((entry): entry is [string, Node] => isNode(entry[1]));
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function isEmpty(value: unknown): boolean {
  return Array.isArray(value) ? value.length === 0 : isNode(value) && Object.keys(value).length === 0;
}

/** Returns every text of a value, without the names of maps. */
function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsOf) : [];
}
