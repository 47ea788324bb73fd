/** Durations are milliseconds everywhere in the agent. */
export type Milliseconds = number;

/** The fields of every step. */
export interface StepBase {
  /** Unique in its plan; the log, the receipt and the metrics use it. */
  name: string;
  /**
   * In `undo` and `cleanup`: run this step only if the step of that name had started, only if it had not, or only if it was
   * interrupted (cancelled, at its deadline, killed).
   */
  ifBegan?: string;
  unlessBegan?: string;
  ifCut?: string;
}

/**
 * A path that containers, a share or another user may change. It is opened right before the process starts, one component
 * after another and without following a link below `root`. Arguments, `cwd`, `stdoutTo` and `stdinFrom` that name it, or an
 * entry of it, then lead to what was opened, even if the path is exchanged meanwhile.
 */
export interface OpenedPath {
  path: string;
  root: string;
  /**
   * `name`: for programs that resolve paths themselves. They get the file's path without links, and must check what they
   * opened.
   */
  as: 'folder' | 'file' | 'name';
  /** The mode of missing folders. Absent: a missing path is a failure. */
  make?: number;
  /** No entry of the folder may be a link, down to this depth: the program uses names in it that others know. */
  depth?: number;
  /** The failure's code if there is a link. Default: `path-outside`. */
  code?: string;
}

/** Starts a process and waits for it. `argv` goes to the kernel unchanged: no shell reads it. */
export interface StartStep extends StepBase {
  do: 'start';
  argv: [string, ...string[]];
  cwd?: string;
  /** Added to the clean environment that every child gets. */
  env?: Record<string, string>;
  /** Also added to the environment, but read only at the start: the values are in no plan and in no file of the run. */
  secrets?: Record<string, SecretSource>;
  timeout: Milliseconds;
  /** Stops the process after this time without output and without progress. */
  stallTimeout?: Milliseconds;
  /** The registries that it pulls from, whose circuits apply. Not the images: their names may have values of env files. */
  registries?: string[];
  /** Redraws its progress on one line: not every state of that line is reported. */
  redraws?: true;
  /** Opened before the start. Names of others' files are in no argument without it. */
  opens?: OpenedPath[];
  /** Absolute path for standard output; standard error stays in the log. */
  stdoutTo?: string;
  /** Limits of `stdoutTo` in bytes: its size (default: that of the log), or the space that must stay free next to it. */
  stdoutLimit?: { size: number } | { free: number };
  /** Absolute path of the file that is its standard input; default: an empty one. */
  stdinFrom?: string;
  /** Exit codes that count as success. Default: 0. */
  okCodes?: number[];
  /** Exit codes that count as success with a warning, if retries did not help. */
  okAtLast?: number[];
  /** A good exit code is not enough: the output must contain each of `mustSay`, and none of `mustNotSay`. */
  mustSay?: string[];
  mustNotSay?: string[];
  /** The output must not contain a line that begins with `begins` and ends with one of `ends` (any end if empty). */
  fatal?: { begins: string; ends: string[] }[];
  /** Prefixes of lines that the result repeats as warnings. */
  warnings?: string[];
  /** Time between SIGTERM and SIGKILL; default: 30 s. */
  grace?: Milliseconds;
  /** Changes what runs on the host (not only what is stored): a failure after it is not "nothing was changed". */
  changes?: true;
  /** Idempotent: the step runs again if its outcome is not known. */
  repeatable?: true;
  /** Transient failures: if the output contains one of the texts, the step is retried, at most `times` times. */
  retry?: { on: string[]; times: number; pause: Milliseconds }[];
  /** Code and remedy of every other end. */
  failure: { code: string; remedy: string };
  /** More exact failures: the first that matches the exit code and the output (its last 4 KiB) replaces `failure`. */
  reasons?: FailureReason[];
}

export interface FailureReason {
  exit?: number[];
  says?: string;
  code: string;
  remedy: string;
}

/** A file of the host (its first line), or a variable of a container (the first that is set). A missing one is left out. */
export type SecretSource = { file: string } | { container: string; variables: string[] };
