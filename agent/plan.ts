import type { Change } from '../protocol/event.ts';
import type { KeepRules } from './keep.ts';

/** Durations are milliseconds everywhere in the agent. */
export type Milliseconds = number;

interface Named {
  /** Unique in its plan; what the log, the receipt and the metrics call the step. */
  name: string;
  /**
   * In `undo` and `cleanup`: carry this out only if the step of that name had begun, only if it had not, or only if it was
   * cut short (cancelled, at its deadline, killed).
   */
  ifBegan?: string;
  unlessBegan?: string;
  ifCut?: string;
}

/** Starts a process and waits for it. `argv` goes to the kernel as it is: no shell reads it. */
export interface Start extends Named {
  do: 'start';
  argv: [string, ...string[]];
  cwd?: string;
  /** Added to the clean environment that every child gets. */
  env?: Record<string, string>;
  timeout: Milliseconds;
  /** Ends the process when it has printed nothing and not got on for so long. */
  stallTimeout?: Milliseconds;
  /** Absolute path for standard output; standard error stays in the log. */
  stdoutTo?: string;
  /** Exit codes that count as done. Default: 0. */
  okCodes?: number[];
  /** An exit code that counts as done is not enough: the output must hold each of these, and none of those. */
  mustSay?: string[];
  mustNotSay?: string[];
  /** Lines that begin so are told at the end: it is done, with warnings. */
  warnings?: string[];
  /** How long a process that is to end gets before it is killed; default: 30 s. */
  grace?: Milliseconds;
  /** It changes what runs on the host (not only what is stored): a failure after it is not "nothing was changed". */
  changes?: true;
  /** Carrying it out twice is as good as once: where nobody knows how it ended, it is carried out again. */
  repeatable?: true;
  /** Failures that pass: where the output holds one of these texts, it is tried again, at most so often. */
  retry?: { on: string[]; times: number; pause: Milliseconds }[];
  /** What the failure is called when it ends otherwise, and what a person does about it. */
  failure: { code: string; remedy: string };
}

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
export interface Write extends Named {
  do: 'write';
  changes: FileChange[];
}

/** Puts back what the `write` step of that name replaced, removed or made. */
export interface Restore extends Named {
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
export interface Tidy extends Named {
  do: 'tidy';
  project: ComposeProject;
  /** Ids. */
  keep?: string[];
  /** As of {@link Start}. */
  changes?: true;
  /** The docker client, as argv[0]. */
  docker: string;
  timeout: Milliseconds;
}

/**
 * Waits until every container is running and healthy by its own health check, or has ended with 0 (a one-shot). One
 * without a health check counts once it has been running for `settle`.
 */
export interface AwaitHealthy extends Named {
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
  revive?: { up: Start; ran: string[] };
  settle: Milliseconds;
  timeout: Milliseconds;
}

/** Watches for so long that every container stays as good as it is: none unhealthy, ended or started again. */
export interface Settle extends Named {
  do: 'settle';
  project: ComposeProject;
  for: Milliseconds;
}

interface Probe extends Named {
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
export interface Http extends Probe {
  do: 'http';
  url: string;
  status: number[];
  /** A text that the body must hold. */
  body?: string;
}

/** Opens a connection. */
export interface Tcp extends Probe {
  do: 'tcp';
  host: string;
  port: number;
}

/** Records each container's service, id and image. Two of them, `before` and `after`, make the receipt's image table. */
export interface Measure extends Named {
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
}

/** Adds what runs now, and from which files, to the stack's releases in `folder`. Keeps the newest `keep`. */
export interface Remember extends Named {
  do: 'remember';
  folder: string;
  project: ComposeProject;
  files: ReleasedFile[] | null;
  compose: string[];
  keep: number;
  /** Under this name in place of the run's. */
  as?: string;
  of?: string;
}

/**
 * The place of a backup is the one that is meant: mounted as said, marked, writable, with room. Throws nothing away and
 * makes `folder`.
 */
export interface CheckTarget extends Named {
  do: 'check-target';
  /** As agent.yaml names it. */
  path: string;
  mount?: { source?: string | undefined; fstype?: string | undefined } | undefined;
  marker?: string | undefined;
  /** Bytes that must be free: what the backup is expected to take, and what must be left. */
  needs: number;
  /** The folder of this backup below it. */
  folder: string;
}

/** What is to be backed up is there, under one of the roots, not empty, and has not lost more than half since the last time. */
export interface CheckSource extends Named {
  do: 'check-source';
  path: string;
  roots: string[];
  /** What the last verified backup held; absent: nothing to compare with. */
  last?: { bytes: number; files: number } | undefined;
  acceptShrink: boolean;
}

/** What a manifest says of a backup beside what is found when it is read back. */
export interface Taken {
  kind: string;
  name: string;
  run: string;
  at: string;
  source: string;
  notes?: string | undefined;
}

/**
 * Reads a backup back (`partial`, a file or a folder in `folder`): each file's SHA-256, bytes, count. Then makes it durable, writes
 * its manifest `<name>.json`, and gives it its name.
 */
export interface Seal extends Named {
  do: 'seal';
  folder: string;
  partial: string;
  as: string;
  manifest: Taken;
}

/** A backup is read again whole, and must be what its manifest says. */
export interface CheckBackup extends Named {
  do: 'check-backup';
  folder: string;
  backup: string;
}

/** A folder takes another's place: what is at `path` goes to `aside`, what is at `next` to `path`. Back again: `back`. */
export interface Swap extends Named {
  do: 'swap';
  path: string;
  next: string;
  aside: string;
  /** Under one of these it must be, once links are resolved. */
  roots: string[];
  back?: true;
}

/** Runs a program that lists backups as JSON: one of them must be new (`ctime`, seconds, from `since` on) and not empty. */
export interface ExpectListed extends Named {
  do: 'expect-listed';
  argv: [string, ...string[]];
  /** ISO 8601. */
  since: string;
  backup: { kind: string; name: string };
  timeout: Milliseconds;
}

/** Takes backups away that the rules don't keep; see keep.ts. What was interrupted long ago goes too. */
export interface Prune extends Named {
  do: 'prune';
  folder: string;
  rules: KeepRules;
  minKeep: number;
}

export type Step =
  | Start
  | Tidy
  | Write
  | Restore
  | AwaitHealthy
  | Settle
  | Http
  | Tcp
  | Measure
  | Remember
  | CheckTarget
  | CheckSource
  | Seal
  | ExpectListed
  | CheckBackup
  | Swap
  | Prune;

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
}

/** `undefined`: not known (a dry run looks at nothing). `null`: known to be absent. */
export type Answer<T> = T | null | undefined;

/** A read-only window on the host. A plan learns nothing in any other way. */
export interface Look {
  /** Names in a folder; null where there is no such folder. */
  list(folder: string): Promise<Answer<string[]>>;
  /** A file's text; null where there is none. Throws for one over 4 MiB. */
  read(file: string): Promise<Answer<string>>;
  /** Runs a program that changes nothing. Output is limited to 16 MiB. `keepFor`: an answer of at most this age will do. */
  ask(
    argv: [string, ...string[]],
    options?: { cwd?: string; keepFor?: Milliseconds },
  ): Promise<Answer<{ code: number; stdout: string; stderr: string }>>;
  /** GET on the Docker Engine API (`/containers/json?…`), parsed; null for 404. Throws {@link CannotPlan} `docker-unreachable`. */
  engine(path: string): Promise<Answer<unknown>>;
}

/** The plan can't be made: a person has to do something first. Ends the document as `failed` with this code. */
export class CannotPlan extends Error {
  override name = 'CannotPlan';
  readonly code: string;
  readonly remedy: string;

  constructor(code: string, message: string, remedy: string) {
    super(message);
    this.code = code;
    this.remedy = remedy;
  }
}
