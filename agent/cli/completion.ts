import type { CommandSpec } from './command-spec.ts';
import { listOptions } from './command-spec.ts';
import { type Arguments, GROUPS, SHOWN_COMMANDS, selectCommands } from './commands.ts';

/** Prints a completion script for a shell. */
export function completionCommand([shell]: Arguments<'completion'>): number {
  process.stdout.write(SCRIPTS[shell]());
  return 0;
}

/** Words that may follow a prefix of a command line. */
interface Completion {
  prefix: string;
  words: string[];
}

const WORDS = [...new Set(SHOWN_COMMANDS.map(({ name }) => name.split(' ')[0] ?? ''))];
const ONE_LINE = new Map([...Object.entries(GROUPS), ...SHOWN_COMMANDS.map(({ name, text }) => [name, text] as const)]);

/** Returns completions, subcommands before their groups: the first that matches is right. */
function listCompletions(): Completion[] {
  const subcommands = SHOWN_COMMANDS.filter(({ name }) => name.includes(' '));
  return [
    ...subcommands.map(command => ({ prefix: command.name, words: wordsOf([command]) })),
    ...WORDS.map(word => {
      const commands = selectCommands(word);
      const verbs = commands.flatMap(({ name }) => name.split(' ')[1] ?? []);
      return { prefix: word, words: [...verbs, ...wordsOf(commands)] };
    }),
  ];
}

function wordsOf(commands: readonly CommandSpec[]): string[] {
  const choices = commands.flatMap(({ arguments: args = [] }) => args.flatMap(argument => argument.choices ?? []));
  const options = commands.flatMap(command => listOptions(command).map(({ name }) => `--${name}`));
  return [...new Set([...choices, ...options, '--help'])];
}

/** Returns options whose values are a choice, with these values. */
function listChoices(): Completion[] {
  const options = SHOWN_COMMANDS.flatMap(listOptions);
  return options.flatMap(({ name, choices }) => (choices ? [{ prefix: `--${name}`, words: [...choices] }] : []));
}

const SCRIPTS: Record<Arguments<'completion'>[0], () => string> = {
  bash: () => `_chatops() {
  local current=\${COMP_WORDS[COMP_CWORD]} choices=
  if [ "$COMP_CWORD" -eq 1 ]; then
    choices="${WORDS.join(' ')}"
  else
    case "\${COMP_WORDS[*]:1:COMP_CWORD-1} " in
${listChoices()
  .map(({ prefix, words }) => `      *" ${prefix} ") choices="${words.join(' ')}" ;;`)
  .join('\n')}
${listCompletions()
  .map(({ prefix, words }) => `      "${prefix} "*) choices="${words.join(' ')}" ;;`)
  .join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$choices" -- "$current"))
  [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _chatops chatops
`,
  zsh: () => `#compdef chatops
_chatops() {
  local -a choices
  if (( CURRENT == 2 )); then
    choices=(${WORDS.join(' ')})
  else
    case "\${words[2,CURRENT-1]} " in
${listChoices()
  .map(({ prefix, words }) => `      *" ${prefix} ") choices=(${words.join(' ')}) ;;`)
  .join('\n')}
${listCompletions()
  .map(({ prefix, words }) => `      "${prefix} "*) choices=(${words.join(' ')}) ;;`)
  .join('\n')}
    esac
    _files
  fi
  compadd -a choices
}
compdef _chatops chatops
`,
  fish: () =>
    [
      ...WORDS.map(word => `complete -c chatops -f -n __fish_use_subcommand -a ${word}${describe(ONE_LINE.get(word))}`),
      ...SHOWN_COMMANDS.filter(({ name }) => name.includes(' ')).map(({ name, text }) => {
        const [word, verb] = name.split(' ');
        return `complete -c chatops -n "__fish_seen_subcommand_from ${word}" -a ${verb}${describe(text)}`;
      }),
      ...WORDS.map(
        word =>
          `complete -c chatops -n "__fish_seen_subcommand_from ${word}" -a "${wordsOf(selectCommands(word)).join(' ')}"`,
      ),
      '',
    ].join('\n'),
};

function describe(text: string | undefined): string {
  return text === undefined ? '' : ` -d '${text.replaceAll("'", "\\'")}'`;
}
