import type { Intent } from '../../intents/intent.ts';
import type { IntentDocument } from '../../protocol/command.ts';
import type { BackupDescription } from '../plan/backup-manifest.ts';
import type { ComposeRules, HostReader, Milliseconds, Plan } from '../plan/plan.ts';

export type { Keep } from '../../intents/backup.ts';
export { parseDuration } from '../../intents/duration.ts';
export { type Intent, parseBackupSubject } from '../../intents/intent.ts';
export type { Switch } from '../../intents/rollout.ts';
export { listVerifyHosts, type Verify } from '../../intents/verify.ts';
export type { Change } from '../../protocol/event.ts';

/** A file of the command without its content: the plan names it by `sha256`. `path` is relative to the stack's folder. */
export interface ShippedFileRef {
  path: string;
  mode: number;
  sha256: string;
  /** Absolute path of its content until it is written to the stack's folder. */
  at: string;
}

/** The host as an executor knows it: folders and programs of this machine, from agent.yaml. */
export interface HostSite {
  /** Stacks' folders are `<stacksRoot>/<stack>`. Absolute, links resolved. */
  stacksRoot: string;
  /** Folder of the agent's records of stacks: `<state_dir>/stacks`. */
  memory: string;
  /** The docker client, as argv[0]. */
  docker: string;
  /** Addresses and ranges that `verify` may request, and `stack` for a stack's own containers. */
  verify: string[];
  /** Running time after which a container without a health check counts as healthy. */
  settle: Milliseconds;
  /** Prefix of the names of Proxmox's programs: empty, or a folder that ends in a slash. */
  proxmox: string;
  backups: BackupSite;
  /** Folders (absolute) outside of a stack's own in which its blue-green rollouts may write the file of a proxy. */
  switchFoldersOf: (stack: string) => string[];
  /** Limits of compose files. */
  compose: { rulesOf: (stack: string) => ComposeRules };
}

/** Folders (absolute) that backups may read and write, and their passwords. */
export interface BackupSite {
  sources: string[];
  destinations: BackupDestination[];
  remotes: BackupRemote[];
  /** Folder of the manifests of backups that are stored on other hosts. */
  records: string;
  databases: DatabaseLogin[];
  /** The file that holds the password of restic's repositories. */
  resticPassword?: string | undefined;
}

/** A database server whose user or password differs from the one in its container. */
export interface DatabaseLogin {
  /** The name of its container, or the folder of its socket. */
  server: string;
  /** The stack whose container gets the password; false: a container that compose did not start. */
  stack?: string | false | undefined;
  user?: string | undefined;
  password_file?: string | undefined;
}

/** A folder for backups, and the proofs that the right disk is mounted there. */
export interface BackupDestination {
  path: string;
  mount?: { source?: string | undefined; fstype?: string | undefined } | undefined;
  marker?: string | undefined;
  /** Bytes. */
  minFree: number;
}

/** A folder on another host for backups by rsync: `rsync://nas/module/folder` or `user@nas:/folder`. */
export interface BackupRemote {
  target: string;
  /** Options of ssh. Paths contain no spaces. */
  ssh?: { key_file?: string | undefined; known_hosts?: string | undefined; port?: number | undefined } | undefined;
  /** Password of an rsync daemon. */
  password_file?: string | undefined;
  /** A file that must exist: proof that the right disk is mounted at the other end. */
  marker?: string | undefined;
}

/** The newest backup of a name. Times are ISO 8601. */
export interface KnownBackup {
  kind: string;
  name: string;
  archive: string;
  at: string;
  verifiedAt?: string;
  run: string;
  /** Name of the intent file that made it. */
  document: string;
}

/** Everything that a plan is made from, in addition to the intent and the host. */
export interface PlanContext {
  document: IntentDocument;
  /** The run's id, and the time of planning by the host's clock (ISO 8601). */
  run: string;
  at: string;
  site: HostSite;
  /** The files that the command ships to the intent's stack. */
  files: ShippedFileRef[];
  /** Folder (absolute) in which the plan's checked compose configs are stored: a part of the run's folder. */
  configs: string;
  /** The known backups; absent in a run that executes nothing. */
  backups?: KnownBackup[];
  /** Ids of documents of the same file that make no backup here: in `needs` they are not names of backups. */
  nonBackupIds?: string[];
  /** The plan lists the differences from the present state. They take time that a run need not spend. */
  wantsDiff: boolean;
}

/** A path that an intent names, and the folder that must contain it after links are resolved. */
export interface PathClaim {
  path: string;
  root: string;
}

/**
 * The code for one kind of thing. It decides and performs no side effects: it returns a plan, and reads the present state
 * from the host reader only.
 */
export interface Executor<I extends Intent = Intent> {
  /** The folder's name: `compose`. */
  kind: string;
  /** Tells if this executor plans that intent. */
  supports(intent: Intent): intent is I;
  /** Returns the subjects that are locked during the run: two runs that share a subject run one after the other. */
  lockSubjects(intent: I, document: IntentDocument): string[];
  /** Returns every path of the host that the intent names. Admission resolves and checks them before a run exists. */
  claimPaths(intent: I, site: HostSite): PathClaim[];
  /** Lists the hosts that the agent connects to for the intent. Admission checks addresses and names that resolve; the step checks all. */
  listHosts(intent: I): string[];
  /** Throws `Failure`. */
  plan(intent: I, context: PlanContext, host: HostReader): Promise<Plan>;
  /** Returns the commands with which an operator restores a backup without this product, for RESTORE.md. */
  restoreByHand?(manifest: BackupDescription): string;
}

/** Forgets which intents an executor is for: the table of executors passes it only intents that it supports. */
export function defineExecutor<I extends Intent>(executor: Executor<I>): Executor {
  return executor as unknown as Executor;
}
