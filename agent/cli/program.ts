import { Argument, Command, type CommanderError, Help, Option } from 'commander';
import { VERSION } from '../../protocol/version.ts';
import {
  type ArgumentSpec,
  type CommandSpec,
  describeOption,
  formatArgument,
  formatCall,
  type OptionSpec,
} from './command-spec.ts';
import { COMMANDS, GROUPS, selectCommands } from './commands.ts';
import { EXIT, printError } from './exit.ts';
import { execute } from './handlers.ts';
import { type Call, initialValue } from './parse-call.ts';
import { cliRefusals } from './refusals.ts';

const EPILOGUE = `
Run "chatops COMMAND --help" for the options of a command, "chatops man" for the manual page.
Most commands print JSON with --json. Exit codes: 0 done, 1 invalid, refused or failed, 2 wrong call.`;

type Execute = (call: Call) => Promise<void>;

/** Explains a command line that is wrong or asks for help. Returns the exit code. Throws `Refused`. */
export async function runProgram(argv: string[]): Promise<number> {
  let code: number = EXIT.done;
  try {
    await parseProgram(argv, async call => {
      code = await execute(call);
    });
  } catch (error) {
    if (error instanceof Displayed) return error.code;
    throw error;
  }
  return code;
}

/** Parses a command line with commander. Throws `Refused` for a wrong call. */
export async function parseProgram(argv: string[], run: Execute): Promise<void> {
  await createProgram(run).parseAsync(argv.length === 0 ? [] : arrange(argv), { from: 'user' });
}

/** Ends the parsing after a help text or the version. */
class Displayed extends Error {
  readonly code: number;

  constructor(code: number) {
    super('displayed');
    this.code = code;
  }
}

/**
 * Puts the subcommand of a group in front of the options that are written before it, and refuses an option without its
 * value: commander would take the next option as the value.
 */
function arrange([word = '', ...rest]: string[]): string[] {
  const commands = selectCommands(word);
  const options = commands.flatMap(({ options = [] }) => options);
  const isGroup = commands.some(({ name }) => name.includes(' '));
  let verb: number | undefined;
  for (let index = 0; index < rest.length && rest[index] !== '--'; index++) {
    const [text = '', next] = rest.slice(index, index + 2);
    const option = options.find(({ name, short }) => text === `--${name}` || text === `-${short}`);
    if (option?.value !== undefined) {
      if (next === undefined || /^-./.test(next))
        throw cliRefusals.wrongCall(
          `The option ${text} has no value.`,
          `Write ${text} ${option.value}, or ${text}=${option.value} for a value that starts with "-".`,
        );
      index++;
    } else if (!text.startsWith('-')) verb ??= index;
  }
  if (!isGroup || verb === 0 || rest.some(text => text === '--help' || text === '-h')) return [word, ...rest];
  if (verb === undefined)
    throw cliRefusals.wrongCall(`A subcommand of "chatops ${word}" is missing.`, `Run "chatops ${word} --help".`);
  return [word, ...rest.splice(verb, 1), ...rest];
}

/** Builds the parser from the table of commands. */
function createProgram(run: Execute): Command {
  const program = prepare(new Command('chatops'), 'chatops', 'chatops COMMAND [OPTION …]')
    .description('Deployments on machines you own: the agent of a host, and its command line.')
    .version(VERSION, '-v, --version', 'Print the version.')
    .addHelpText('after', EPILOGUE);
  for (const spec of COMMANDS) {
    const [word = '', verb] = spec.name.split(' ');
    const parent =
      verb === undefined ? program : (program.commands.find(one => one.name() === word) ?? addGroup(program, word));
    const command = createCommand(spec, verb ?? word, run);
    parent.addCommand(command, { hidden: 'hidden' in spec });
  }
  return program;
}

function addGroup(program: Command, word: string): Command {
  const group = prepare(new Command(word), `chatops ${word}`, `chatops ${word} COMMAND [OPTION …]`)
    .summary(GROUPS[word] ?? '')
    .description(sentence(GROUPS[word] ?? ''));
  program.addCommand(group);
  return group;
}

function createCommand(spec: (typeof COMMANDS)[number], word: string, run: Execute): Command {
  const { name, text, details, arguments: args = [], options = [], examples = [] }: CommandSpec = spec;
  const usage = `chatops ${formatCall(spec)}${options.length > 0 ? ' [OPTION …]' : ''}`;
  const command = prepare(new Command(word), `chatops ${name}`, usage, spec)
    .summary(text)
    .description([sentence(text), ...(details ? [details] : [])].join(' '));
  for (const argument of args) command.addArgument(createArgument(argument));
  const parsers = options.map(option => [option.name, createOption(option)] as const);
  for (const [, option] of parsers) command.addOption(option);
  if (examples.length > 0)
    command.addHelpText('after', ['\nExamples:', ...examples.map(line => `  ${line}`)].join('\n'));
  return command.action(() => {
    const values = Object.fromEntries(
      parsers.map(([key, option]) => [key, command.getOptionValue(option.attributeName())]),
    );
    // Checked here and not by commander, which would report a mistyped required option as missing.
    const missing = options.find(option => option.required && values[option.name] === undefined);
    if (missing)
      throw cliRefusals.wrongCall(`The option --${missing.name} is missing.`, `Write: chatops ${formatCall(spec)}`);
    return run({ name: spec.name, args: command.processedArgs, options: values });
  });
}

function createArgument(spec: ArgumentSpec): Argument {
  const term = `${spec.name}${spec.variadic ? '...' : ''}`;
  const argument = new Argument(spec.optional ? `[${term}]` : `<${term}>`, spec.text);
  return spec.choices ? argument.choices([...spec.choices]) : argument;
}

function createOption(spec: OptionSpec): Option {
  const { name, short, value, choices, repeatable, required, hidden, group } = spec;
  const long = `--${name}${value === undefined ? '' : ` <${value}>`}`;
  const option = new Option(short === undefined ? long : `-${short}, ${long}`, describeOption(spec));
  if (choices) option.choices([...choices]);
  if (repeatable) option.argParser((one: string, before: string[]) => [...before, one]);
  if (!required) option.default(initialValue(spec));
  if (hidden) option.hideHelp();
  if (group !== undefined) option.helpGroup(group);
  return option;
}

/** Sets what commander would otherwise inherit: the style of help texts, and errors as refusals. */
function prepare(command: Command, path: string, usage: string, spec?: CommandSpec): Command {
  return command
    .enablePositionalOptions()
    .helpOption('-h, --help', 'Print this help.')
    .configureOutput({ outputError: () => undefined, writeErr: text => printError(text.trimEnd()) })
    .configureHelp({
      formatHelp: (shown, helper) =>
        Help.prototype.formatHelp.call(
          helper,
          shown,
          Object.assign(Object.create(helper) as Help, { visibleCommands: listLeaves }),
        ),
      commandUsage: () => usage,
      subcommandTerm: formatLeaf,
      argumentTerm: shown =>
        (spec?.arguments ?? [])
          .filter(({ name }) => name === shown.name())
          .map(formatArgument)
          .join(''),
      optionTerm: shown => shown.flags.replace(/ <(.*)>/, ' $1'),
      optionDescription: shown => shown.description,
    })
    .exitOverride(error => {
      if (error.exitCode === 0) throw new Displayed(EXIT.done);
      if (error.code === 'commander.help') throw new Displayed(EXIT.usage);
      throw toWrongCall(error, path, spec);
    });
}

/** Returns the commands below a command, without groups and hidden ones. */
function listLeaves(command: Command): Command[] {
  const shown = new Help().visibleCommands(command).filter(one => one.name() !== 'help');
  return shown.flatMap(one => (one.commands.length > 0 ? listLeaves(one) : [one]));
}

function formatLeaf(command: Command): string {
  const path = command.parent?.parent ? `${command.parent.name()} ${command.name()}` : command.name();
  const spec = COMMANDS.find(({ name }) => name === path);
  return `chatops ${spec ? formatCall(spec) : path}`;
}

/** Rewords what commander reports: the problem, then what to write. */
function toWrongCall({ code, message }: CommanderError, path: string, spec?: CommandSpec): Error {
  const [problem = '', suggestion = ''] = message
    .replace(/^error: (command-argument )?/, '')
    .replaceAll(/ <([^>]*)>'/g, " $1'")
    .replaceAll("'", '"')
    .split('\n');
  const remedy =
    code === 'commander.missingArgument' && spec ? `Write: chatops ${formatCall(spec)}` : `Run "${path} --help".`;
  return cliRefusals.wrongCall(sentence(problem), `${suggestion.replaceAll(/[()]/g, '')} ${remedy}`.trim());
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}
