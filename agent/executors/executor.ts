import type { Intent } from '../../intents/intent.ts';
import type { IntentDocument } from '../../protocol/command.ts';
import type { ComposeGrant, HostReader, Plan } from '../plan/plan.ts';

export type { Keep } from '../../intents/backup.ts';
export { parseDuration } from '../../intents/duration.ts';
export { type Intent, parseBackupSubject } from '../../intents/intent.ts';
export type { Switch } from '../../intents/rollout.ts';
export { listVerifyHosts, type Verify } from '../../intents/verify.ts';
export type { Change } from '../../protocol/event.ts';

/** A file of the command, without its content: the plan refers to it by `sha256`. `path` is relative to the stack's folder. */
export interface ShippedFileRef {
  path: string;
  mode: number;
  sha256: string;
  /** Where its content lies until it is put in place: an absolute path, for looking. */
  at: string;
}

/** What the host tells an executor: folders and programs of this machine, from agent.yaml. */
export interface HostSite {
  /** Stacks' folders are `<stacksRoot>/<stack>`. Absolute, links resolved. */
  stacksRoot: string;
  /** Where the agent keeps what it must remember of a stack: `<state_dir>/stacks`. */
  memory: string;
  /** The docker client, as argv[0]. */
  docker: string;
  /** What `verify` may ask: addresses and ranges, and `stack` for a stack's own containers. */
  verify: string[];
  /** What goes before the names of Proxmox's programs: nothing, or a folder with a slash at its end. */
  proxmox: string;
  backups: BackupSite;
  /** Bounds of compose files: folders that any stack may bind beside its own, ports that may be published, and what is granted to a stack. */
  compose: { binds: string[]; ports: [number, number]; socket: string; grantsOf: (stack: string) => ComposeGrant[] };
}

/** Where backups may read and write (absolute), and the passwords that they take. */
export interface BackupSite {
  sources: string[];
  destinations: BackupDestination[];
  remotes: BackupRemote[];
  /** Where the agent keeps the manifests of backups that lie on other hosts. */
  records: string;
  /** Database servers that want another user or password than their container tells. */
  databases: { server: string; user?: string | undefined; password_file?: string | undefined }[];
  /** The file that holds the password of restic's repositories. */
  resticPassword?: string | undefined;
}

/** A folder that takes backups, and how it is recognised. */
export interface BackupDestination {
  path: string;
  mount?: { source?: string | undefined; fstype?: string | undefined } | undefined;
  marker?: string | undefined;
  /** Bytes. */
  minFree: number;
}

/** A place on another host that takes backups by rsync: `rsync://nas/module/folder` or `user@nas:/folder`. */
export interface BackupRemote {
  target: string;
  /** How ssh is called. Paths hold no spaces. */
  ssh?: { key_file?: string | undefined; known_hosts?: string | undefined; port?: number | undefined } | undefined;
  /** Of an rsync daemon. */
  password_file?: string | undefined;
  /** A file that must be there: proof that what is meant is mounted at the other end. */
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
  /** The name of the intent file that it was made by. */
  document: string;
}

/** What a plan is made from, beside the intent. */
export interface PlanContext {
  document: IntentDocument;
  /** The run's id, and the time of planning by the host's clock (ISO 8601). */
  run: string;
  at: string;
  site: HostSite;
  /** The files that the command ships to the intent's stack. */
  files: ShippedFileRef[];
  /** What is known of backups; absent where nothing is carried out. */
  backups?: KnownBackup[];
  /** Ids of documents of the same file that make no backup here: of `needs` these are no names of backups. */
  nonBackupIds?: string[];
  /** Whether the differences between what is and what would be are wanted: they cost time that a run need not take. */
  wantsDiff: boolean;
}

/** A path that an intent names, and the folder that must hold it after links are resolved. */
export interface PathClaim {
  path: string;
  root: string;
}

/**
 * The code for one kind of thing. It decides and does nothing: what it wants done it says in the plan, and what it
 * must know it asks of `look`.
 */
export interface Executor<I extends Intent = Intent> {
  /** The folder's name: `compose`. */
  kind: string;
  /** Whether this executor carries out that intent. */
  supports(intent: Intent): intent is I;
  /** What is locked while it runs: two runs that share a subject go one after the other. */
  lockSubjects(intent: I, document: IntentDocument): string[];
  /** Every path of the host that the intent reaches by name. The guard resolves and judges them before a run exists. */
  claimPaths(intent: I, site: HostSite): PathClaim[];
  /** Hosts that the intent has the agent ask. The guard judges addresses and names that it can look up; the step judges all. */
  listHosts(intent: I): string[];
  /** Throws `Failure`. */
  plan(intent: I, context: PlanContext, host: HostReader): Promise<Plan>;
}
