import { VERSION } from '../../protocol/version.ts';
import {
  type CommandSpec,
  describeOption,
  formatArgument,
  formatOption,
  formatUsage,
  listOptions,
  type OptionSpec,
} from './command-spec.ts';
import { SHOWN_COMMANDS } from './commands.ts';

/** The date of the last change to the texts of the page. */
const MAN_DATE = '2026-11-26';

const DESCRIPTION = [
  'One program is the agent of a host and its command line.',
  'Most commands talk to the agent of this host. They find its socket by --config or --socket; only the owner of the socket may use it.',
  'Some commands also talk to an agent elsewhere in the tailnet, with a signing key. Its agent.yaml needs a trust entry for the repository laptop/NAME, with a rule that has the event laptop under without_approval.',
  'The commands schedule, doctor, notify, policy and audit also need their name under may_ask of that entry.',
];

/** Prints the manual page, in the macros of man(7). */
export function manCommand(): number {
  process.stdout.write(renderPage());
  return 0;
}

function renderPage(): string {
  const shared = new Map(
    SHOWN_COMMANDS.flatMap(listOptions)
      .filter(isShared)
      .map(option => [option.name, option]),
  );
  const options = SHOWN_COMMANDS.flatMap(listOptions);
  const variables = new Map(options.flatMap(({ name, variable }) => (variable ? [[variable, name] as const] : [])));
  return `${[
    `.TH CHATOPS 1 ${MAN_DATE} "chatops ${VERSION}"`,
    '.SH NAME',
    escapeRoff('chatops - deployments on machines you own'),
    '.SH SYNOPSIS',
    '.B chatops',
    escapeRoff('COMMAND [OPTION …]'),
    '.SH DESCRIPTION',
    ...DESCRIPTION.map(escapeRoff),
    '.SH COMMANDS',
    ...SHOWN_COMMANDS.flatMap(renderCommand),
    '.SH SHARED OPTIONS',
    ...[...shared.values()].flatMap(renderOption),
    '.SH ENVIRONMENT',
    ...[...variables].flatMap(([variable, name]) => [
      '.TP',
      `.B ${escapeRoff(variable)}`,
      escapeRoff(`The value of --${name} if that is not given.`),
    ]),
    '.SH EXIT STATUS',
    escapeRoff('0: done. 1: invalid, refused or failed. 2: wrong call. 141: the reader of the output is gone.'),
    '.SH FILES',
    '.TP',
    '.I /etc/chatops/agent.yaml',
    'The policy of the host.',
    '.TP',
    '.I /var/lib/chatops',
    escapeRoff('The key of the agent, its database, its runs and its socket agent.sock.'),
  ].join('\n')}\n`;
}

function renderCommand(command: CommandSpec): string[] {
  const { name, text, details, arguments: args = [], examples = [] } = command;
  const own = listOptions(command).filter(option => !isShared(option));
  const others = listOptions(command).filter(isShared);
  return [
    `.SS ${escapeRoff(name)}`,
    `.B ${escapeRoff(formatUsage(command))}`,
    '.PP',
    escapeRoff([`${text.charAt(0).toUpperCase()}${text.slice(1)}.`, details ?? ''].join(' ').trim()),
    ...(others.length > 0
      ? ['.br', escapeRoff(`Shared options: ${others.map(one => `--${one.name}`).join(', ')}.`)]
      : []),
    ...args.flatMap(argument => ['.TP', `.I ${escapeRoff(formatArgument(argument))}`, escapeRoff(argument.text)]),
    ...own.flatMap(renderOption),
    ...(examples.length > 0 ? ['.PP', 'Examples:'] : []),
    ...examples.flatMap(example => ['.br', escapeRoff(example)]),
  ];
}

function renderOption(option: OptionSpec): string[] {
  return ['.TP', `.B ${escapeRoff(formatOption(option))}`, escapeRoff(describeOption(option))];
}

function isShared({ group }: OptionSpec): boolean {
  return group !== undefined;
}

/** Returns text that roff prints literally. */
function escapeRoff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '...')
    .replace(/^[.']/, '\\&$&');
}
