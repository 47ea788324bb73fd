import type { Change } from '../../protocol/event.ts';
import type {
  CheckBackupStep,
  CheckSourceStep,
  CheckTargetStep,
  ClearStep,
  CompareCopyStep,
  ExpectEndingStep,
  ExpectListedStep,
  NoteDrillStep,
  NoteSnapshotStep,
  PruneStep,
  SealStep,
  SwapStep,
  TallyStep,
} from './backup-steps.ts';
import type { CheckedConfig, MountSource, RenderedStack, RenderRequest } from './compose-config.ts';
import type { Milliseconds, StartStep, StepBase } from './start-step.ts';

export type * from './backup-steps.ts';
export type * from './compose-config.ts';
export type * from './start-step.ts';

/**
 * A file that is written or removed. The step checks that `root` contains `path`, also after links are resolved.
 * `shipped` is the SHA-256 of a file of the command; `file` is the absolute path of a file that the agent keeps.
 */
export type FileChange = {
  path: string;
  root: string;
  /** A record of the agent: neither reported nor counted as a change. */
  own?: true;
} & ({ mode: number; content: { shipped: string } | { text: string } | { file: string } } | { remove: true });

/**
 * Writes files in order, each atomically (temporary name, fsync, rename, fsync of the folder). The previous content is kept
 * in the run's folder, for `restore` and for operators.
 */
export interface WriteStep extends StepBase {
  do: 'write';
  changes: FileChange[];
}

/** Reverts the files that the `write` step of that name replaced, removed or created. */
export interface RestoreStep extends StepBase {
  do: 'restore';
  of: string;
}

/** Containers of a compose project, found by its folder as compose labels it (`com.docker.compose.project.working_dir`). */
export interface ComposeProject {
  dir: string;
  /** Absent: the only project in the folder. Present if two projects share it (blue and green). */
  name?: string;
  /** Absent: every service of the project. */
  services?: string[];
}

/**
 * Removes containers. With `keep`: all other containers of the project. Without it: the leftovers of a killed compose, which
 * have a temporary name (`<12 hex>_<name>`) and never started.
 */
export interface TidyStep extends StepBase {
  do: 'tidy';
  project: ComposeProject;
  /** Ids of containers. */
  keep?: string[];
  /** Same as in {@link StartStep}. */
  changes?: true;
  /** The docker client, as argv[0]. */
  docker: string;
  timeout: Milliseconds;
}

/**
 * Waits until every container is running and healthy by its own health check, or has exited with 0 (a one-shot). A
 * container without a health check counts after it has been running for `settle`.
 */
export interface AwaitHealthyStep extends StepBase {
  do: 'await-healthy';
  project: ComposeProject;
  /** Number of containers that a service must have. */
  replicas?: Record<string, number>;
  /** These services must have a health check that passes: running is not enough. */
  checked?: string[];
  /**
   * Runs "up" again if a container is found stopped: after an interrupted compose the engine still stops containers that the
   * next compose takes for running. `prepare`: the check of the mounts before it. `ran`: ids of containers that ran before;
   * such a container is not a one-shot.
   */
  revive?: { prepare: PrepareMountsStep[]; up: StartStep; ran: string[] };
  settle: Milliseconds;
  timeout: Milliseconds;
}

/** Watches the containers for a time: none may become unhealthy, exit or restart. */
export interface SettleStep extends StepBase {
  do: 'settle';
  project: ComposeProject;
  for: Milliseconds;
}

interface ProbeStep extends StepBase {
  /** Timeout of each try. */
  timeout: Milliseconds;
  /** Number of tries after the first one. */
  retries: number;
  pause: Milliseconds;
  /** A host that is the name of one of its services stands for each container of that service. */
  project: ComposeProject;
  /** Addresses and ranges that the step may connect to; `stack` stands for the containers of the project. */
  allow: string[];
}

/** Requests an address and checks the response. Redirects are not followed. */
export interface HttpStep extends ProbeStep {
  do: 'http';
  url: string;
  status: number[];
  /** A text that the body must contain. */
  body?: string;
}

/** Opens a TCP connection. */
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

/** A file of a release. Its content is stored under its SHA-256. */
export interface ReleasedFile {
  path: string;
  mode: number;
  sha256: string;
}

/** A checked config of a release. Its content is stored under its SHA-256, like a file of the release. */
export interface ReleasedConfig {
  sha256: string;
  /** The profiles that were active. */
  profiles: string[];
}

/** The recorded state of a stack: enough to roll back to it. */
export interface Release {
  /** The runs that left the stack like this, the newest last. */
  runs: string[];
  at: string;
  /** Each service's image by reference and id. */
  images: { service: string; reference: string; image: string }[];
  /** Files that rollouts had shipped; null if none had. */
  files: ReleasedFile[] | null;
  /** The checked config that ran. An agent before this feature kept none. */
  config?: ReleasedConfig;
  /** Releases of such an agent: compose files on the host that were not shipped, in compose's order; absolute paths. */
  compose?: ReleasedFile[];
  /** The run whose release this one brought back. */
  of?: string;
  /** Backups that were made before it. */
  points?: RestorePoint[];
}

/** A backup from which a rollback can restore the data. */
export interface RestorePoint {
  kind: string;
  name: string;
  /** An absolute path, or the archive's name in terms of its kind. */
  archive: string;
  /** ISO 8601. */
  at: string;
  run: string;
}

/** Adds the running images and the files to the stack's releases in `folder`. Keeps the newest `keep`. */
export interface RememberStep extends StepBase {
  do: 'remember';
  folder: string;
  project: ComposeProject;
  files: ReleasedFile[] | null;
  /** The checked config that runs: `file` is copied. */
  config: ReleasedConfig & CheckedConfig;
  keep: number;
  /** Name of the release; default: the run's id. */
  as?: string;
  of?: string;
  points?: RestorePoint[];
}

/**
 * Checks the sources of a config's mounts right before compose starts: no component is a link, no container may write at a
 * parent, and missing folders are created. Fails if the config's file has another digest.
 */
export interface PrepareMountsStep extends StepBase {
  do: 'prepare-mounts';
  config: CheckedConfig;
  mounts: MountSource[];
  project: ComposeProject;
  /** The stack may mount below folders that containers write. */
  nested: boolean;
}

export type Step =
  | StartStep
  | PrepareMountsStep
  | TidyStep
  | WriteStep
  | RestoreStep
  | AwaitHealthyStep
  | SettleStep
  | HttpStep
  | TcpStep
  | MeasureStep
  | RememberStep
  | CheckTargetStep
  | CheckSourceStep
  | CompareCopyStep
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

/** The planned work as data: it can be shown, stored, compared, and executed after a restart. */
export interface Plan {
  /** One line: `rollout plex on stack-media`. */
  title: string;
  /** One line for readers: the changes, or that they are not known. */
  summary: string;
  changes: Change[];
  steps: Step[];
  /** After a failed step, in this order. */
  undo: Step[];
  /** At the end, regardless of the outcome. */
  cleanup: Step[];
  /** Additional steps after `undo`, if a plan that succeeded is undone because a later one of its graph failed. */
  late?: Step[];
  /** The reason why a failure after a change is not undone, as a sentence: there is no version to bring back. */
  oneWay?: string;
  /** Sentences for the log and for readers of a plan. */
  warnings?: string[];
  /** The backups that it requires, for the receipt. */
  restorePoints?: RestorePoint[];
}

/** `undefined`: not known (a dry run does not read the host). `null`: known to be absent. */
export type ReadResult<T> = T | null | undefined;

/** A read-only view of the host, and the only source of facts for a plan. */
export interface HostReader {
  /** Returns the names in a folder; null if it does not exist. */
  list(folder: string): Promise<ReadResult<string[]>>;
  /** Returns the text of a file; null if it does not exist. Throws if it is over 4 MiB. */
  read(file: string): Promise<ReadResult<string>>;
  /** Runs a program that changes nothing. Output is limited to 16 MiB. `keepFor`: maximum age of a cached answer. */
  ask(
    argv: [string, ...string[]],
    options?: { cwd?: string; keepFor?: Milliseconds },
  ): Promise<ReadResult<{ code: number; stdout: string; stderr: string }>>;
  /**
   * Renders and checks a stack's compose config, stores it, and returns it. Reads only files of the stack's folder (or of the
   * overlay), opens no connection and starts nothing of the stack. Throws {@link Failure} `compose-…`.
   */
  render(request: RenderRequest): Promise<RenderedStack | undefined>;
  /** Sends a GET to the Docker Engine API (`/containers/json?…`) and parses the response; null for 404. Throws {@link Failure} `docker-unreachable`. */
  engine(path: string): Promise<ReadResult<unknown>>;
}
