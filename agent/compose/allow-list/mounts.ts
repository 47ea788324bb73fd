import { isIP } from 'node:net';
import { checkHostPath } from './host-path.ts';
import {
  type ComposeNode,
  documented,
  flag,
  form,
  granted,
  isNode,
  type KeyRule,
  list,
  matching,
  never,
  object,
  oneOf,
  type Place,
  printable,
  refuse,
  text,
} from './key-rule.ts';
import { labels } from './labels.ts';

const TMPFS_OPTION =
  /^(ro|rw|(no)?exec|(no)?suid|nodev|(no|rel)?atime|(no)?diratime|(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9]+[kmgKMG%]?)$/;

/** `tmpfs` of a service: a target, and options of the mount. */
export const tmpfs: KeyRule = form('a folder of the container, with options such as "size=64m,mode=1777"', value => {
  const [target = '', options, ...rest] = typeof value === 'string' ? value.split(':') : [];
  return (
    target.startsWith('/') &&
    rest.length === 0 &&
    (options === undefined || options.split(',').every(option => TMPFS_OPTION.test(option)))
  );
});

const bindOptions = object({
  create_host_path: flag,
  recursive: oneOf('enabled', 'disabled', 'writable', 'readonly'),
  selinux: oneOf('z', 'Z'),
  propagation: granted('host-namespaces', oneOf('private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'), {
    harmless: value => ['', 'private', 'rprivate', 'slave', 'rslave'].includes(value as string),
    reason: ' shares mounts with the host',
    needs: 'nothing for private and slave; `host-namespaces` for shared',
  }),
});

const mountOptions: Record<string, KeyRule> = {
  type: documented('nothing for bind, volume and tmpfs; never others', oneOf('bind', 'volume', 'tmpfs')),
  source: documented(
    'nothing for volumes and for paths in the stack’s folder; `binds`, `docker-socket` for others',
    text,
  ),
  target: matching(/^\/[^\0]*$/, 'a path of the container'),
  read_only: flag,
  consistency: oneOf('', 'consistent', 'cached', 'delegated', 'default'),
  bind: bindOptions,
  volume: object({
    nocopy: flag,
    labels,
    subpath: form(
      'a path in the volume without ".."',
      value => typeof value === 'string' && !value.startsWith('/') && !value.split('/').includes('..'),
    ),
  }),
  tmpfs: object({
    size: form('a size', value => Number.isSafeInteger(value) || /^[0-9]{1,20}$/.test(String(value))),
    mode: form('a mode', value => Number.isSafeInteger(value)),
  }),
  image: never('the agent does not pull the image', 'Copy its files with a service that ends'),
};

/** `volumes` of a service. */
export const mounts: KeyRule = list(object(mountOptions, checkMount));

function checkMount({ type, source, read_only }: ComposeNode, at: Place): void {
  if (type === 'bind') checkHostPath(source, read_only !== true, at);
  else if (type === 'volume' && source !== undefined && !isDeclared('volumes', source, at))
    refuse(at, ` names the volume ${printable(source)}, which the file does not declare`);
  else if (type === 'tmpfs' && source !== undefined) refuse(at, ' is a tmpfs with a source');
  else if (type === undefined) refuse(at, ' is a mount without a type');
}

/** Configs and secrets of a service. */
export function fileMounts(room: 'configs' | 'secrets'): KeyRule {
  return list(
    object(
      {
        source: text,
        target: text,
        uid: text,
        gid: text,
        mode: form('a mode', value => Number.isSafeInteger(value) || /^[0-7]{1,6}$/.test(String(value))),
      },
      ({ source }, at) => {
        if (!isDeclared(room, source, at))
          refuse(at, ` names ${printable(source)}, which the file does not declare in "${room}"`);
      },
    ),
  );
}

function isDeclared(room: string, name: unknown, { config }: Place): boolean {
  const declared = config[room];
  return isNode(declared) && typeof name === 'string' && Object.hasOwn(declared, name);
}

/** `ports` of a service. */
export const ports: KeyRule = list(
  object(
    {
      name: text,
      mode: oneOf('ingress', 'host'),
      host_ip: form('an address', value => value === '' || isIP(String(value)) !== 0),
      target: form('a port', value => isPort(value)),
      published: documented('nothing within `compose.ports`; a list `ports` or the grant for others', text),
      protocol: oneOf('tcp', 'udp', 'sctp'),
      app_protocol: text,
    },
    checkPort,
  ),
);

function checkPort({ published = '', target }: ComposeNode, at: Place): void {
  const { grants, ports, agentPorts } = at.rules;
  if (published === '' || published === '0') {
    if (!grants.includes('ports') && !ports.some(([lowest, highest]) => lowest <= 1 && highest >= 65_535))
      refuse(at, ` publishes ${printable(target)} at a port that the engine chooses. Name the port`, [
        { grant: 'ports' },
      ]);
    return;
  }
  const [, first = '', last = first] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(String(published)) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === '' || !isPort(from) || !isPort(to) || from > to)
    refuse(at, ` publishes ${printable(published)}, which is not a port or a range of ports`);
  else if (agentPorts.some(own => own >= from && own <= to))
    refuse(at, ` publishes ${printable(published)}, a port of the agent`);
  else if (!grants.includes('ports') && !ports.some(([lowest, highest]) => from >= lowest && to <= highest))
    refuseRange(String(published), at);
}

function refuseRange(published: string, at: Place): void {
  const allowed = at.rules.ports.map(([lowest, highest]) => `${lowest}-${highest}`).join(', ');
  refuse(at, ` publishes the port ${printable(published)}, which is not between ${allowed}`, [
    { list: 'ports', value: published },
    { grant: 'ports' },
  ]);
}

function isPort(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535;
}

/** `expose` of a service: an entry of the image, and not a port of the host. */
export const exposed: KeyRule = list(
  form('a port', value => typeof value === 'number' || /^[0-9-]{1,11}(\/[a-z]{3,4})?$/.test(String(value))),
);
