/** Durations are milliseconds everywhere in the agent. */
export type Milliseconds = number;

/** What every step has. */
export interface StepBase {
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
export interface StartStep extends StepBase {
  do: 'start';
  argv: [string, ...string[]];
  cwd?: string;
  /** Added to the clean environment that every child gets. */
  env?: Record<string, string>;
  /** Likewise, and read only when it is started: their values are in no plan and in no file of the run. */
  secrets?: Record<string, SecretSource>;
  timeout: Milliseconds;
  /** Ends the process when it has printed nothing and not got on for so long. */
  stallTimeout?: Milliseconds;
  /** It asks registries: those of the config that was judged last. */
  pulls?: true;
  /** It draws its progress over and over on one line: not each of these is told. */
  redraws?: true;
  /** Absolute path for standard output; standard error stays in the log. */
  stdoutTo?: string;
  /** Absolute path of the file that is its standard input; default: an empty one. */
  stdinFrom?: string;
  /** Exit codes that count as done. Default: 0. */
  okCodes?: number[];
  /** Exit codes that count as done, with a warning, where `retry` has not helped. */
  okAtLast?: number[];
  /** An exit code that counts as done is not enough: the output must hold each of these, and none of those. */
  mustSay?: string[];
  mustNotSay?: string[];
  /** Nor may it hold a line that begins so and ends in one of those (or anyhow, where there are none). */
  fatal?: { begins: string; ends: string[] }[];
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
  /** More exactly: the first that fits its exit code and output (its last 4 KiB) is told in place of `failure`. */
  reasons?: FailureReason[];
}

export interface FailureReason {
  exit?: number[];
  says?: string;
  code: string;
  remedy: string;
}

/** A file of the host, whose first line counts, or a variable of a container (the first that is there). What is not there is left out. */
export type SecretSource = { file: string } | { container: string; variables: string[] };
