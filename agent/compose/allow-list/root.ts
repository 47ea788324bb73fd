import { isIP } from 'node:net';
import { parseAddressRanges } from '../../system/address-ranges.ts';
import { checkHostPath } from './host-path.ts';
import {
  below,
  custom,
  documented,
  flag,
  form,
  granted,
  isNode,
  type KeyRule,
  list,
  map,
  matching,
  never,
  object,
  orNull,
  type Place,
  printable,
  refuse,
  text,
} from './key-rule.ts';
import { labels } from './labels.ts';
import { checkOwned } from './names.ts';
import { service } from './service.ts';

const NAMES = /^[a-zA-Z0-9._-]+$/;

/** Options of the bridge that stay inside of the network. */
const BRIDGE_OPTIONS = ['com.docker.network.driver.mtu', 'com.docker.network.bridge.enable_icc'];

/** Subnets that a bridge may take. Another one would take the host's way to addresses of the internet. */
const PRIVATE_SUBNET =
  /^(10\.|172\.(1[6-9]|2[0-9]|3[01])\.|192\.168\.)[0-9.]+\/(1[6-9]|2[0-9]|3[0-2])$|^f[cd][0-9a-f]{2}:[0-9a-f:]*\/(4[89]|[5-9][0-9]|1[01][0-9]|12[0-8])$/i;

const SUBNET = /^[0-9a-fA-F.:]{2,45}\/[0-9]{1,3}$/;
const address = form('an address', value => typeof value === 'string' && (value === '' || isIP(value) !== 0));
const subnet = matching(SUBNET, 'a subnet');

const subnetOfBridge: KeyRule = custom(
  'nothing for private subnets that the host does not use; `network-drivers` for others',
  (value, at) => {
    subnet.check(value, at);
    if (typeof value !== 'string' || !SUBNET.test(value) || at.rules.grants.includes('network-drivers')) return;
    const opens = [{ grant: 'network-drivers' as const }];
    if (!PRIVATE_SUBNET.test(value))
      refuse(at, ' is not a private subnet (10.x, 172.16-31.x, 192.168.x or fd00::, /16 or smaller)', opens);
    else if (at.rules.hostNetworks.some(one => overlap(one, value)))
      refuse(at, ` is ${value}, a network of the host itself`, opens);
  },
);

/** Two subnets overlap if one of them holds the other's address. */
function overlap(one: string, other: string): boolean {
  const holds = (range: string, of: string) => {
    const [address = ''] = of.split('/');
    try {
      return parseAddressRanges([range]).check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
    } catch {
      return false; // Not an address: the engine refuses it.
    }
  };
  return holds(one, other) || holds(other, one);
}

const addresses = object({
  driver: granted('network-drivers', text, {
    harmless: value => value === '' || value === 'default',
    reason: ' is another driver of addresses',
    needs: 'nothing for default; `network-drivers` for others',
  }),
  options: granted('network-drivers', map(text), {
    harmless: value => isNode(value) && Object.keys(value).length === 0,
    reason: ' gives options to the driver of addresses',
  }),
  config: list(
    object({
      subnet: subnetOfBridge,
      ip_range: subnet,
      gateway: address,
      aux_addresses: map(address),
    }),
  ),
});

const network: KeyRule = orNull(
  object(
    {
      name: documented('nothing for the project’s own; list `networks` for others; `host-namespaces` for host', text),
      external: { ...flag, keys: { name: never('compose renders it as "name"') } },
      driver: granted('network-drivers', matching(/^[a-z0-9][\w./:-]{0,100}$/, 'the name of a driver'), {
        harmless: value => value === '' || value === 'bridge',
        reason: ' is another driver than bridge',
        needs: 'nothing for bridge; `network-drivers` for others',
      }),
      driver_opts: granted('network-drivers', map(form('a text', value => typeof value !== 'object')), {
        harmless: value => isNode(value) && Object.keys(value).every(name => BRIDGE_OPTIONS.includes(name)),
        reason: ' gives options to the network’s driver',
        needs: 'nothing for MTU and ICC; `network-drivers` for others',
      }),
      ipam: addresses,
      internal: flag,
      attachable: flag,
      enable_ipv4: flag,
      enable_ipv6: flag,
      labels,
    },
    ({ name, external }, at) => {
      if (name === 'host') {
        if (!at.rules.grants.includes('host-namespaces'))
          refuse(below(at, 'name'), ' is the host’s network', [{ grant: 'host-namespaces' }]);
      } else if (name !== 'none') checkNamed('networks', name, external, at);
    },
  ),
);

/** A volume or network without a name gets one of the project. */
function checkNamed(kind: 'volumes' | 'networks', name: unknown, external: unknown, at: Place): void {
  if (name !== undefined) checkOwned(kind, name, below(at, 'name'));
  else if (external === true) checkOwned(kind, at.path.at(-1), at);
}

const volume: KeyRule = orNull(
  object(
    {
      name: documented('nothing for the project’s own; list `volumes` for others', text),
      external: { ...flag, keys: { name: never('compose renders it as "name"') } },
      driver: granted('volume-drivers', matching(/^[a-z0-9][\w./:-]{0,100}$/, 'the name of a driver'), {
        harmless: value => value === '' || value === 'local',
        reason: ' is another driver than local',
        needs: 'nothing for local; `volume-drivers` for others',
      }),
      driver_opts: custom(
        'nothing for tmpfs, and for a bind of the stack’s folder; `binds`; `shares` for NFS and SMB; `volume-drivers` for others',
        checkVolumeOptions,
      ),
      labels,
    },
    ({ name, external }, at) => checkNamed('volumes', name, external, at),
  ),
);

/** The local driver mounts anything that the kernel can mount. Passwords can be in its options: no message shows them. */
function checkVolumeOptions(value: unknown, at: Place): void {
  if (!isNode(value) || Object.values(value).some(one => typeof one === 'object')) refuse(at, ' is not a map of texts');
  else if (Object.keys(value).length > 0) checkLocalMount(value as Record<string, string | number>, at);
}

function checkLocalMount(value: Record<string, string | number>, at: Place): void {
  const { type = '', device = '', o = '', ...others } = value;
  const options = String(o).split(',').filter(Boolean);
  const isPlain = Object.keys(others).length === 0;
  if (isPlain && isBindVolume(value)) {
    checkHostPath(device, !options.includes('ro'), below(at, 'device'));
  } else if (
    at.rules.grants.includes('volume-drivers') ||
    (isPlain && type === 'tmpfs' && options.every(one => TMPFS_OPTION.test(one)))
  ) {
    // A tmpfs is memory of the host, as any container uses it.
  } else if (isPlain && SHARES.includes(String(type)) && options.every(one => SHARE_OPTION.test(one))) {
    if (!at.rules.grants.includes('shares'))
      refuse(at, ` mounts a share (${type})`, [{ grant: 'shares' }, { grant: 'volume-drivers' }]);
  } else
    refuse(at, ` mounts ${type === '' ? 'something' : printable(type)} of the host`, [{ grant: 'volume-drivers' }]);
}

const TMPFS_OPTION = /^(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9]+[kmgKMG%]?$|^(ro|rw|noexec|nosuid|nodev)$/;
const SHARES = ['nfs', 'nfs4', 'cifs', 'smb3'];
/** Options of shares; a path of the host (such as a file of credentials) is not one of them. */
const SHARE_OPTION = /^[a-zA-Z0-9_]{1,40}(=[^/]{0,200})?$|^(user|username|pass|password|domain|prefixpath)=/;

/** Returns true for a volume of the local driver that is a folder of the host. */
export function isBindVolume(options: unknown): options is { device: string } {
  if (!isNode(options)) return false;
  const { type = '', device, o } = options;
  const flags = String(o ?? '').split(',');
  return (
    ['none', '', 'bind'].includes(String(type)) &&
    typeof device === 'string' &&
    flags.some(one => one === 'bind' || one === 'rbind') &&
    flags.every(one => ['bind', 'rbind', 'ro', 'rw'].includes(one))
  );
}

function mountedFile(source: Record<string, KeyRule>): KeyRule {
  return object(
    {
      name: text,
      file: documented('nothing in the stack’s folder; `binds` for others', text),
      environment: matching(/^[A-Za-z_]\w{0,200}$/, 'the name of a variable'),
      labels,
      external: { ...flagOff, keys: { name: never('only swarm has it') } },
      template_driver: never('only swarm has it'),
      ...source,
    },
    ({ file }, at) => {
      if (file !== undefined) checkHostPath(file, false, below(at, 'file'));
    },
  );
}

const flagOff: KeyRule = documented(
  'never: only swarm has it',
  form('false: only swarm has external ones', value => value === false),
);

/** A rendered config. `x-` keys at its top level are read by nothing. */
export const root: KeyRule = withExtensions(
  object({
    name: custom('nothing for the name of the folder; list `project` for another', (value, at) => {
      const { project, others } = at.rules;
      if (value !== project)
        refuse(at, ` is ${printable(value)}, and the project of this stack is "${project}"`, [
          ...(typeof value === 'string' && /^[a-z0-9][a-z0-9_-]*$/.test(value)
            ? [{ list: 'project' as const, value }]
            : []),
        ]);
      if (others.includes(project)) refuse(at, ` is "${project}", which is the project of another stack too`);
    }),
    version: text,
    services: map(service, { names: NAMES }),
    networks: map(network, { names: NAMES }),
    volumes: map(volume, { names: NAMES }),
    configs: map(mountedFile({ content: text }), { names: NAMES }),
    secrets: map(mountedFile({ driver: never('only swarm has it'), driver_opts: never('only swarm has it') }), {
      names: NAMES,
    }),
    models: never('compose starts a program of the host for it', 'Use a service with an image'),
    include: never('compose would read the file after the check'),
  }),
);

function withExtensions(rule: KeyRule): KeyRule {
  return {
    ...rule,
    check: (value, at) => {
      if (!isNode(value)) return rule.check(value, at);
      rule.check(Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('x-'))), at);
      if (!Object.hasOwn(value, 'name')) refuse(at, ' has no project name');
    },
  };
}
