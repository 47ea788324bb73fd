/**
 * Features that a compose file may use only if the host grants them to its stack, each with the risk that it opens. A
 * grant opens named keys and values of the rendered config: docs/compose-keys.md lists them.
 */
export const GRANT_RISKS = {
  privileged: 'The container is root on the host.',
  capabilities: 'Any capability of the kernel, and no seccomp or AppArmor profile: most lead to root on the host.',
  'host-namespaces': 'The container sees the host’s network, processes, memory or mounts, past published ports.',
  'docker-socket':
    'Root on the host: the engine starts any container, with any folder, for whoever reaches its socket.',
  devices: 'The container uses any device of the host; a disk is all that is on it.',
  binds: 'The container reads and writes any folder of the host but the agent’s own.',
  'nested-binds': 'A container that writes a folder chooses what is mounted below it, with a link to any path.',
  ports: 'The stack may take any port of the host, also those of other services.',
  shares: 'The host’s kernel mounts NFS and SMB shares of any server that the file names.',
  'volume-drivers': 'The host mounts any disk or file system: as good as root on the host.',
  'network-drivers': 'Containers get addresses on the host’s own network, past published ports and its firewall.',
  'log-drivers': 'The engine sends logs to any address, and reads the certificates that the file names.',
  resources: 'The stack can starve the host of processor time and memory.',
} as const;

export type ComposeGrant = keyof typeof GRANT_RISKS;

export const COMPOSE_GRANTS = Object.keys(GRANT_RISKS) as [ComposeGrant, ...ComposeGrant[]];

/** Lists of one entry in compose.grants, each with the risk of a value in it. */
export const LIST_RISKS = {
  binds: 'Containers read it and write it; one that ends in ":ro" they only read.',
  devices: 'Containers use this device.',
  capabilities: 'Containers may have this capability.',
  containers: 'The stack joins whichever container has this name.',
  volumes: 'The stack reads and writes this volume of others.',
  networks: 'The stack reaches the containers of this network, and can answer to their names.',
  ports: 'The stack takes these ports of the host.',
  project: 'The stack owns what has this project name.',
} as const;

export type ComposeList = keyof typeof LIST_RISKS;

/** The limits of one stack's compose config, from agent.yaml. */
export interface ComposeRules {
  /** Name of the stack: its folder's name. */
  stack: string;
  /** The one project name that the stack may use. */
  project: string;
  /** Project names of the host's other stacks. */
  others: string[];
  /** The stack's folder, absolute. */
  dir: string;
  grants: ComposeGrant[];
  /** Paths (absolute) that the stack may bind in addition to its own folder, with all below. */
  binds: string[];
  /** Paths that it may bind read-only. */
  readOnlyBinds: string[];
  /** Ports of the host that it may publish: the lowest and the highest of each range. */
  ports: [number, number][];
  /** Ports at which the agent listens: no grant opens them. */
  agentPorts: number[];
  /** Networks of the host itself (`192.0.2.7/24`), without those of the engine. */
  hostNetworks: string[];
  /** The engine's socket. */
  socket: string;
  /** The agent's own folders and files: no grant opens a bind of them. */
  agent: string[];
  /** Devices (paths below /dev, or CDI names) and capabilities that it may use. */
  devices: string[];
  capabilities: string[];
  /** Names of containers that it may join, although they can belong to others. */
  containers: string[];
  /** Names of volumes and networks of others (or of none) that the stack may use. */
  volumes: string[];
  networks: string[];
}

/** A line of agent.yaml that allows a part of a config: a grant, or a value in a list of compose.grants. */
export type Opening = { grant: ComposeGrant } | { list: ComposeList; value: string };

/** A part of a rendered config that the host does not allow. */
export interface Violation {
  /** Keys from the config's root. */
  path: string[];
  /** Names the service, the key and the reason, without a secret value. */
  message: string;
  /** The openings of which one is enough, the narrowest first. Empty: nothing allows it. */
  opens: Opening[];
}

/** Returns the name that compose gives to the project in a folder of this name. */
export function projectName(folder: string): string {
  return folder
    .toLowerCase()
    .replace(/[^-_a-z0-9]/g, '')
    .replace(/^[-_]+/, '');
}

/** Returns the warning about a variable of a compose file that nothing sets. An undefined name is not to be shown. */
export function describeUnset(file: string, line: number, name: string | undefined): string {
  return name === undefined
    ? `${file}:${line}: compose reads a "$" as a variable that nothing sets, and removes it. Write "$$" for a literal "$".`
    : `${file}:${line}: the variable ${name} is not set, and compose puts nothing in its place. Set it in .env.`;
}

/** Returns the warning about a value of an env file, without the value. */
export function describeChangedValue(file: string, line: number, name: string): string {
  return `${file}:${line}: compose reads a "$" in ${name} as a variable and changes the value. Put it in single quotes.`;
}

/** A path of the host that a config mounts into containers: a bind, or the file of a config or secret. */
export interface MountSource {
  kind: 'bind' | 'config' | 'secret';
  /** Services that mount it. */
  services: string[];
  /** Absolute; no component may be a link below its root. */
  source: string;
  /** The stack's folder or the folder of compose.binds that holds it; undefined if only the grant `binds` allows it. */
  root: string | undefined;
  /** True if a container may write there. */
  writable: boolean;
  /** True if a missing folder is created. */
  create: boolean;
}

/** Names what {@link HostReader.render} reads. */
export interface RenderRequest {
  stack: string;
  /** The stack's folder, absolute. */
  dir: string;
  /** Absolute path of the compose file that the intent names; absent: the files that compose finds by itself. */
  compose?: string | undefined;
  /** Files that the run will write to the stack's folder: their path there, and the path of their content (null: removed). */
  overlay: Record<string, string | null>;
  /** A checked config that was kept: it is checked again instead of rendering, because the rules may have changed since. */
  stored?: CheckedConfig | undefined;
  /** Absolute path where the checked config is stored, mode 0600. */
  as: string;
  /** Copies with another project name, for blue-green: by name. `unpublished`: a service that publishes no port in it. */
  variants?: Record<string, { as: string; project: string; unpublished?: string | undefined }>;
}

/** A rendered config that keeps the host's rules. Its file is the only input of compose afterwards. */
export interface CheckedConfig {
  /** Absolute path, and SHA-256 of its content. */
  file: string;
  sha256: string;
}

export interface RenderedStack extends CheckedConfig {
  project: string;
  config: ComposeConfig;
  /** Active profiles: `COMPOSE_PROFILES` of `.env`. */
  profiles: string[];
  /** Absolute paths of the files of the stack that were read. */
  sources: string[];
  mounts: MountSource[];
  /** Sentences for people: variables that nothing sets. */
  warnings: string[];
  variants: Record<string, CheckedConfig>;
}

/** The fields of `docker compose config --format json` that the agent reads. */
export interface ComposeConfig {
  name: string;
  services: Record<string, ComposeService>;
  volumes?: Record<string, { name?: string; external?: boolean } | null>;
  networks?: Record<string, { name?: string; external?: boolean } | null>;
}

export interface ComposeService {
  image?: string;
  build?: unknown;
  container_name?: string;
  network_mode?: string;
  profiles?: string[];
  scale?: number;
  deploy?: { replicas?: number };
  ports?: { target: number; published?: string; protocol?: string; host_ip?: string }[];
  volumes?: { type: string; source?: string; target: string; read_only?: boolean }[];
  environment?: Record<string, string | null>;
}
