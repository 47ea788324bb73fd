import { globSync, readFileSync } from 'node:fs';
import type { Random } from '../../faults/random.ts';
import { SERVICE_FRAGMENTS, TOP_FRAGMENTS } from './fragments.ts';
import { alternatives, namedValues, type Schema, specification } from './specification.ts';

export type Node = Record<string, unknown>;

/** Values that take the host over, or that look like ones that do. */
const ATTACKS: unknown[] = [
  'host',
  'container:victim',
  'service:web',
  'service:nowhere',
  '/',
  '/etc',
  '/etc/shadow',
  '/proc',
  '/sys/fs/cgroup',
  '/dev/mem',
  '/dev/vda',
  '/var/run/docker.sock',
  '/run/docker.sock',
  '/var/lib/docker',
  '/var/lib/chatops/agent.key',
  '/opt/stacks/victim/.env',
  '/opt/stacks/app',
  '/opt/stacks/app/data',
  '/opt/stacks/app/../victim',
  '/opt/stacks/app/data/below',
  '/srv/allowed/x',
  '/srv/readable/x',
  'etc',
  './data',
  'npipe://x',
  'victim_default',
  'app_default',
  'ALL',
  'SYS_ADMIN',
  'CHOWN',
  'NET_ADMIN',
  'seccomp:unconfined',
  'seccomp:./open.json',
  'no-new-privileges:true',
  'apparmor=unconfined',
  'label:disable',
  'c 1:1 rwm',
  'macvlan',
  'ipvlan',
  'overlay',
  'local',
  'bridge',
  'none',
  'bind',
  'rbind,ro',
  'tmpfs',
  'nfs',
  'lowerdir=/etc,upperdir=/etc',
  'addr=192.0.2.1,credentials=/etc/shadow',
  'syslog',
  'tcp://192.0.2.1:514',
  'nvidia',
  '22',
  '8080',
  '8000-9000',
  '0',
  '140.82.112.0/20',
  '172.30.0.0/24',
  '|/x',
  '$X',
  '$$X',
  '',
  'cluster',
  'image',
  'volume',
  true,
  false,
  -1000,
  0,
  1,
  22,
  null,
  [],
  {},
];

/** Names of options that reach the host in maps whose keys the specification leaves open. */
const OPTIONS = [
  'type',
  'device',
  'o',
  'parent',
  'com.docker.network.bridge.name',
  'com.docker.network.driver.mtu',
  'com.docker.compose.project',
  'syslog-address',
  'max-size',
  'kernel.core_pattern',
  'net.core.somaxconn',
  'run.oci.handler',
  'rtprio',
  'nofile',
  'size',
  'A',
  '__proto__',
  'constructor',
];

const UNKNOWN = ['teleport', 'Privileged', 'host', 'x-lifecycle', 'x-#value', 'constructor', 'driver_opt'];

/** Configs as compose renders them: the starting points. */
const SEEDS = globSync('test/fixtures/rendered/*.json').map(
  path => JSON.parse(readFileSync(path, 'utf8').replaceAll(/\/opt\/stacks\/[\w-]+/g, '/opt/stacks/app')) as Node,
);

/** Returns a config: one of a homelab with parts of the whole specification, and with attacks. */
export function generateConfig(random: Random): Node {
  const config = random.below(3) === 0 ? minimal() : structuredClone(random.pick(SEEDS));
  const was = config.name;
  config.name = 'app';
  rename(config, `${was}_`);
  if (random.below(4) > 0) trim(config, random);
  if (random.below(2) === 0) addFragment(config, random);
  for (let left = random.below(3); left > 0; left--) change(config, specification, random, 0);
  if (random.below(12) === 0) insertUnknown(config, random);
  return config;
}

function minimal(): Node {
  return {
    name: 'app',
    services: { web: { image: 'local/test:1', command: null, entrypoint: null, networks: { default: null } } },
    networks: { default: { name: 'app_default', ipam: {} } },
  };
}

/** Adds an attack of the list to the top level or to a service. */
function addFragment(config: Node, random: Random): void {
  const isOfService = random.below(4) > 0;
  const node = isOfService ? random.pick(Object.values(config.services as Record<string, Node>)) : config;
  for (const [key, value] of Object.entries(random.pick(isOfService ? SERVICE_FRAGMENTS : TOP_FRAGMENTS)))
    if (value === undefined) delete node[key];
    else set(node, key, isNode(value) && isNode(node[key]) ? { ...node[key], ...value } : structuredClone(value));
}

/** Gives the volumes and networks of a seed the project's name. */
function rename(config: Node, prefix: string): void {
  for (const room of ['volumes', 'networks', 'configs', 'secrets'])
    for (const one of Object.values((config[room] ?? {}) as Record<string, Node>))
      if (typeof one.name === 'string' && one.name.startsWith(prefix))
        one.name = `app_${one.name.slice(prefix.length)}`;
}

/** Keeps one service, so that a config is refused for few reasons. */
function trim(config: Node, random: Random): void {
  const services = Object.entries(config.services as Record<string, Node>);
  const [name, kept] = random.pick(services);
  config.services = { [name]: kept };
  for (const key of Object.keys(kept)) if (random.below(3) === 0) delete kept[key];
}

/** Sets one value somewhere in a node, as its schema has it or as an attack. */
function change(node: Node, schema: Schema, random: Random, depth: number): void {
  const maps = alternatives(schema).filter(one => one.properties || namedValues(one).length > 0);
  if (maps.length === 0) return;
  const chosen = random.pick(maps);
  const [key, of] = pickKey(node, chosen, random);
  const below = Object.hasOwn(node, key) ? node[key] : undefined;
  if (isNode(below) && random.below(5) > 0) change(below, of, random, depth + 1);
  else if (Array.isArray(below) && below.some(isNode) && random.below(5) > 0) {
    const items = alternatives(of).flatMap(one => one.items ?? []);
    const [item] = items;
    if (item) change(random.pick(below.filter(isNode)), item, random, depth + 1);
  } else set(node, key, depth > 0 && random.below(3) === 0 ? random.pick(ATTACKS) : generate(of, random, depth));
}

function pickKey(node: Node, schema: Schema, random: Random): [string, Schema] {
  const properties = Object.entries(schema.properties ?? {});
  const [of] = namedValues(schema);
  if (of && (properties.length === 0 || random.below(2) === 0)) {
    const present = Object.keys(node);
    return [present.length > 0 && random.below(3) > 0 ? random.pick(present) : random.pick([...OPTIONS, 'web']), of];
  }
  return random.pick(properties);
}

/** Returns a value of a schema. */
function generate(schema: Schema, random: Random, depth: number): unknown {
  const one = random.pick(alternatives(schema));
  if (one.enum) return random.pick(one.enum);
  if (one.items) return Array.from({ length: 1 + random.below(2) }, () => generate(one.items ?? {}, random, depth + 1));
  const named = namedValues(one);
  if (one.properties || named.length > 0) {
    const node: Node = {};
    for (const [key, of] of Object.entries(one.properties ?? {}))
      if (random.below(depth > 3 ? 6 : 3) === 0) set(node, key, generate(of, random, depth + 1));
    for (const of of named) set(node, random.pick(OPTIONS), generate(of, random, depth + 1));
    return node;
  }
  const type = Array.isArray(one.type) ? random.pick(one.type) : one.type;
  if (type === 'boolean') return random.below(2) === 0;
  if (type === 'integer' || type === 'number') return random.pick([0, 1, 22, 8080, -1000, 300]);
  return random.pick(ATTACKS);
}

/** Adds a key that the specification does not have to any object whose keys it names. Returns its place. */
export function insertUnknown(config: Node, random: Random): string | undefined {
  const places = closedObjects(config, specification, '');
  const place = random.pick(places);
  const key = random.pick(UNKNOWN.filter(one => !(place.at === '' && one.startsWith('x-'))));
  if (Object.hasOwn(place.node, key) || place.known.includes(key)) return undefined;
  set(place.node, key, random.pick(ATTACKS));
  return `${place.at}.${key}`;
}

interface Place {
  node: Node;
  at: string;
  known: string[];
}

function closedObjects(value: unknown, schema: Schema, at: string): Place[] {
  const found: Place[] = [];
  for (const one of alternatives(schema)) {
    if (Array.isArray(value))
      found.push(...value.flatMap((each, index) => closedObjects(each, one.items ?? {}, `${at}[${index}]`)));
    if (!isNode(value)) continue;
    if (one.properties) found.push({ node: value, at, known: Object.keys(one.properties) });
    for (const [key, below] of Object.entries(value)) {
      const of = Object.hasOwn(one.properties ?? {}, key) ? one.properties?.[key] : namedValues(one)[0];
      if (of) found.push(...closedObjects(below, of, `${at}.${key}`));
    }
  }
  return found;
}

/** Sets a key as JSON.parse does: also `__proto__` is a key of the object itself. */
function set(node: Node, key: string, value: unknown): void {
  Object.defineProperty(node, key, { value, enumerable: true, configurable: true, writable: true });
}

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
