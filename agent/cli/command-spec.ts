/** An option of a command, as data. Without `value` it is a switch. */
export interface OptionSpec {
  name: string;
  /** One letter: `f` for `-f`. */
  short?: string;
  /** The name of its value in help texts. */
  value?: string;
  text: string;
  /** Shown in help texts, except for a text that names its default itself. */
  default?: string;
  /** The environment variable that is read if the option is not given. */
  variable?: string;
  choices?: readonly string[];
  repeatable?: true;
  required?: true;
  hidden?: true;
  /** The heading above it in help texts; shared options have one. */
  group?: string;
}

export interface ArgumentSpec {
  name: string;
  text: string;
  optional?: true;
  /** Takes all remaining arguments. Only the last argument may. */
  variadic?: true;
  choices?: readonly string[];
}

/** A command, as data: help, errors, completions, the manual page and docs/agent.md derive from it. */
export interface CommandSpec {
  /** One word, or two for a subcommand: `key add`. */
  name: string;
  /** One line for lists of commands. */
  text: string;
  /** Further sentences for its own help and the manual page. */
  details?: string;
  arguments?: readonly ArgumentSpec[];
  options?: readonly OptionSpec[];
  examples?: readonly string[];
  /** The page in docs/ that explains more. */
  page?: string;
  /** The agent calls it; help, completions and docs leave it out. */
  hidden?: true;
}

type OptionValue<O extends OptionSpec> = O extends { value: string }
  ? O extends { repeatable: true }
    ? string[]
    : O extends { choices: readonly (infer Choice)[] }
      ? Choice
      : O extends { default: string } | { required: true }
        ? string
        : string | undefined
  : boolean;

/** The values that a command gets for its options, by their names. */
export type OptionValues<O extends readonly OptionSpec[]> = { [Spec in O[number] as Spec['name']]: OptionValue<Spec> };

type ArgumentValue<A> = A extends { variadic: true }
  ? string[]
  : A extends { optional: true }
    ? string | undefined
    : A extends { choices: readonly (infer Choice)[] }
      ? Choice
      : string;

/** The values that a command gets for its arguments, in their order. */
export type ArgumentValues<A extends readonly ArgumentSpec[]> = {
  -readonly [Index in keyof A]: ArgumentValue<A[Index]>;
};

/** Returns an argument as usage lines show it: `FILE`, `[RUN]`, `FILE …`. */
export function formatArgument({ name, optional, variadic, choices }: ArgumentSpec): string {
  const term = `${choices ? choices.join(' | ') : name}${variadic ? ' …' : ''}`;
  return optional ? `[${term}]` : term;
}

/** Returns an option as help texts show it: `-f, --follow`, `--limit N`. */
export function formatOption({ name, short, value }: OptionSpec): string {
  return `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
}

/** Returns what an option does, with its choices, default and variable. */
export function describeOption({ text, choices, repeatable, variable, ...spec }: OptionSpec): string {
  return [
    text,
    ...(choices ? [`One of: ${choices.join(', ')}.`] : []),
    ...(repeatable ? ['Repeatable.'] : []),
    ...(spec.default === undefined || text.includes('Default: ') ? [] : [`Default: ${spec.default}.`]),
    ...(variable === undefined ? [] : [`Environment: ${variable}.`]),
  ].join(' ');
}

/** Returns how a command is called, with its required options: `key add KEY --entry NAME`. */
export function formatCall({ name, arguments: args = [], options = [] }: CommandSpec): string {
  const required = options
    .filter(option => option.required)
    .map(option => `--${option.name}${option.value === undefined ? '' : ` ${option.value}`}`);
  return [name, ...args.map(formatArgument), ...required].join(' ');
}

/** Returns how a command is called, with those of its optional options that no other command shares. */
export function formatUsage(command: CommandSpec): string {
  const own = listOptions(command)
    .filter(({ group, required }) => group === undefined && !required)
    .map(
      option =>
        `[--${option.name}${option.value === undefined ? '' : ` ${option.value}`}${option.repeatable ? ' …' : ''}]`,
    );
  return [formatCall(command), ...own].join(' ');
}

/** Returns the options of a command that help texts show. */
export function listOptions({ options = [] }: CommandSpec): OptionSpec[] {
  return options.filter(({ hidden }) => !hidden);
}
