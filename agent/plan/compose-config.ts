/**
 * Features that a compose file may use only if the host grants them to its stack. Each opens named keys and values of the
 * rendered config (agent/compose/).
 */
export const COMPOSE_GRANTS = [
  'privileged',
  'capabilities',
  'host-namespaces',
  'docker-socket',
  'devices',
  'binds',
  'ports',
] as const;

export type ComposeGrant = (typeof COMPOSE_GRANTS)[number];

/** The limits of one stack's compose config, from agent.yaml. */
export interface ComposeRules {
  /** Name of the stack: its folder's name. */
  stack: string;
  /** The one project name that the stack may use. */
  project: string;
  /** The stack's folder, absolute. */
  dir: string;
  grants: ComposeGrant[];
  /** Folders (absolute) that the stack may bind in addition to its own. */
  binds: string[];
  /** The lowest and the highest port of the host that it may publish. */
  ports: [number, number];
  /** The engine's socket. */
  socket: string;
  /** Names of volumes and networks of others (or of none) that the stack may use. */
  volumes: string[];
  networks: string[];
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
