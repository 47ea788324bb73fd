import type { Change } from '../../protocol/event.ts';
import type {
  CheckBackupStep,
  CheckSourceStep,
  CheckTargetStep,
  ClearStep,
  ExpectEndingStep,
  ExpectListedStep,
  NoteDrillStep,
  NoteSnapshotStep,
  PruneStep,
  SealStep,
  SwapStep,
  TallyStep,
} from './backup-steps.ts';
import type { Milliseconds, StartStep, StepBase } from './start-step.ts';

export type * from './backup-steps.ts';
export type * from './start-step.ts';

/**
 * One file put in place or taken away. `root` holds `path`, also after links are resolved, when it is carried out.
 * `shipped` is the SHA-256 of a file of the command; `file` the absolute path of one that the agent keeps.
 */
export type FileChange = {
  path: string;
  root: string;
  /** The agent's own bookkeeping: neither told nor counted as a change. */
  own?: true;
} & ({ mode: number; content: { shipped: string } | { text: string } | { file: string } } | { remove: true });

/**
 * Files, in order, each atomically (temporary name, fsync, rename, fsync of the folder). What was there before is kept in
 * the run's folder, for `restore` and for people.
 */
export interface WriteStep extends StepBase {
  do: 'write';
  changes: FileChange[];
}

/** Puts back what the `write` step of that name replaced, removed or made. */
export interface RestoreStep extends StepBase {
  do: 'restore';
  of: string;
}

/** Which containers of a compose project: its folder as compose labels it (`com.docker.compose.project.working_dir`). */
export interface ComposeProject {
  dir: string;
  /** Absent: the project that has the folder for itself. Present where two share one (blue and green). */
  name?: string;
  /** Absent: every service of the project. */
  services?: string[];
}

/**
 * Takes containers away: where `keep` names some, all others of the project; else what a compose that was killed left
 * behind, those that were created under a temporary name (`<12 hex>_<name>`) and never started.
 */
export interface TidyStep extends StepBase {
  do: 'tidy';
  project: ComposeProject;
  /** Ids. */
  keep?: string[];
  /** As of {@link StartStep}. */
  changes?: true;
  /** The docker client, as argv[0]. */
  docker: string;
  timeout: Milliseconds;
}

/**
 * Waits until every container is running and healthy by its own health check, or has ended with 0 (a one-shot). One
 * without a health check counts once it has been running for `settle`.
 */
export interface AwaitHealthyStep extends StepBase {
  do: 'await-healthy';
  project: ComposeProject;
  /** How many containers a service must have. */
  replicas?: Record<string, number>;
  /** These services must have a health check that passes: running is not enough. */
  checked?: string[];
  /**
   * Carried out when a container is found stopped: a compose that was ended half-way leaves the engine stopping what the
   * next one takes for running. `ran`: ids of containers that ran before; one of those is no one-shot.
   */
  revive?: { up: StartStep; ran: string[] };
  settle: Milliseconds;
  timeout: Milliseconds;
}

/** Watches for so long that every container stays as good as it is: none unhealthy, ended or started again. */
export interface SettleStep extends StepBase {
  do: 'settle';
  project: ComposeProject;
  for: Milliseconds;
}

interface ProbeStep extends StepBase {
  /** For each try. */
  timeout: Milliseconds;
  /** After the first try. */
  retries: number;
  pause: Milliseconds;
  /** A host that is the name of one of its services means each of that service's containers. */
  project: ComposeProject;
  /** Addresses and ranges that may be asked, beside the containers of the project where `stack` is among them. */
  allow: string[];
}

/** Asks an address and judges the answer. Redirects are not followed. */
export interface HttpStep extends ProbeStep {
  do: 'http';
  url: string;
  status: number[];
  /** A text that the body must hold. */
  body?: string;
}

/** Opens a connection. */
export interface TcpStep extends ProbeStep {
  do: 'tcp';
  host: string;
  port: number;
}

/** Records each container's service, id and image. Two of them, `before` and `after`, make the receipt's image table. */
export interface MeasureStep extends StepBase {
  do: 'measure';
  what: 'images';
  as: 'before' | 'after';
  project: ComposeProject;
}

/** A file of a stack as a release names it; its content lies under its SHA-256. */
export interface ReleasedFile {
  path: string;
  mode: number;
  sha256: string;
}

/** What a stack was at one time: enough to bring it back. */
export interface Release {
  /** The runs that left the stack like this, the newest last. */
  runs: string[];
  at: string;
  /** Each service's image by reference and id. */
  images: { service: string; reference: string; image: string }[];
  /** The files that rollouts had shipped; null where none had. */
  files: ReleasedFile[] | null;
  /** The compose files that lay on the host without being shipped, in compose's order; absolute paths. */
  compose: ReleasedFile[];
  /** The run whose release this one brought back. */
  of?: string;
  /** Backups that had been made before it. */
  points?: RestorePoint[];
}

/** A backup to which a change can be undone, data and all. */
export interface RestorePoint {
  kind: string;
  name: string;
  /** Where it lies: an absolute path, or as its kind names it. */
  archive: string;
  /** ISO 8601. */
  at: string;
  run: string;
}

/** Adds what runs now, and from which files, to the stack's releases in `folder`. Keeps the newest `keep`. */
export interface RememberStep extends StepBase {
  do: 'remember';
  folder: string;
  project: ComposeProject;
  files: ReleasedFile[] | null;
  /** The compose files that lie on the host; or those of an earlier release, whose contents are kept, where it is what runs. */
  compose: string[] | ReleasedFile[];
  keep: number;
  /** Under this name in place of the run's. */
  as?: string;
  of?: string;
  points?: RestorePoint[];
}

/** What a compose file may do only where the host grants it to its stack. */
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

/** Has compose render its config, as JSON, and judges it before anything of it is started. It is not kept. */
export interface JudgeConfigStep extends StepBase {
  do: 'judge-config';
  argv: [string, ...string[]];
  cwd: string;
  timeout: Milliseconds;
  /** The file in which lines are named, where it is known. */
  file?: string | undefined;
  rules: { grants: ComposeGrant[]; binds: string[]; ports: [number, number]; socket: string };
}

export type Step =
  | StartStep
  | TidyStep
  | WriteStep
  | RestoreStep
  | AwaitHealthyStep
  | SettleStep
  | HttpStep
  | TcpStep
  | MeasureStep
  | RememberStep
  | JudgeConfigStep
  | CheckTargetStep
  | CheckSourceStep
  | SealStep
  | NoteSnapshotStep
  | TallyStep
  | ExpectListedStep
  | CheckBackupStep
  | SwapStep
  | ClearStep
  | NoteDrillStep
  | ExpectEndingStep
  | PruneStep;

/** What would be done, as data: it can be shown, stored, compared and carried out after a restart. */
export interface Plan {
  /** One line: `rollout plex on stack-media`. */
  title: string;
  /** One line for people: what would change, or that it is not known. */
  summary: string;
  changes: Change[];
  steps: Step[];
  /** After a failed step, in this order. */
  undo: Step[];
  /** At the end, whatever the outcome. */
  cleanup: Step[];
  /** Beside `undo`, and after it, where a plan that has succeeded is to be undone since a later one of its graph has not. */
  late?: Step[];
  /** The backups on which it stands, for the receipt. */
  restorePoints?: RestorePoint[];
}

/** `undefined`: not known (a dry run looks at nothing). `null`: known to be absent. */
export type ReadResult<T> = T | null | undefined;

/** A read-only window on the host. A plan learns nothing in any other way. */
export interface HostReader {
  /** Names in a folder; null where there is no such folder. */
  list(folder: string): Promise<ReadResult<string[]>>;
  /** A file's text; null where there is none. Throws for one over 4 MiB. */
  read(file: string): Promise<ReadResult<string>>;
  /** Runs a program that changes nothing. Output is limited to 16 MiB. `keepFor`: an answer of at most this age will do. */
  ask(
    argv: [string, ...string[]],
    options?: { cwd?: string; keepFor?: Milliseconds },
  ): Promise<ReadResult<{ code: number; stdout: string; stderr: string }>>;
  /** GET on the Docker Engine API (`/containers/json?…`), parsed; null for 404. Throws {@link Failure} `docker-unreachable`. */
  engine(path: string): Promise<ReadResult<unknown>>;
}
