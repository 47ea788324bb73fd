import { cliRefusals } from './refusals.ts';

const REMOTE = ['--agent', '--agent-key', '--signing-key-file', '--as', '--timeout'];

/** Commands and what may follow them, in one place: the shells' completions are made of it. */
export const COMMANDS: Record<string, string[]> = {
  init: [
    '--repository',
    '--profile',
    '--agent',
    '--listen',
    '--repository-id',
    '--owner-id',
    '--label',
    '--stacks',
    '--dir',
    '--json',
  ],
  agent: ['--config'],
  config: ['check', '--json'],
  doctor: [...REMOTE, '--config', '--json'],
  validate: ['--json'],
  run: [...REMOTE, '--plan', '--dry-run', '--detach', '--param', '--json', '--config', '--socket'],
  plan: [...REMOTE, '--param', '--json', '--config', '--socket'],
  rollback: [...REMOTE, '--to', '--plan', '--detach', '--json', '--config', '--socket'],
  runs: [...REMOTE, '--limit', '--before', '--json', '--config', '--socket'],
  logs: [...REMOTE, '--follow', '--json', '--config', '--socket'],
  cancel: [...REMOTE, '--json', '--config', '--socket'],
  schedule: [...REMOTE, '--json', '--config', '--socket'],
  notify: ['test', ...REMOTE, '--json', '--config', '--socket'],
  hook: ['rotate', '--finish', '--json', '--config'],
  policy: [
    'test',
    'explain',
    ...REMOTE,
    '--entry',
    '--event',
    '--label',
    '--approvals',
    '--unmerged',
    '--plan-digest',
    '--at',
    '--param',
    '--json',
    '--config',
  ],
  audit: ['export', 'verify', ...REMOTE, '--receipt', '--expect', '--json', '--config', '--socket'],
  key: ['fingerprint', 'add', 'remove', 'rotate', '--entry', '--finish', '--json', '--config'],
  keygen: ['--out', '--json'],
  selftest: ['--attack', '--out', '--json', '--config'],
  man: [],
  completion: ['bash', 'zsh', 'fish'],
};

/** Prints what a shell takes in to complete `chatops`. */
export function completionCommand([shell, ...rest]: string[]): number {
  const text = rest.length === 0 && shell !== undefined ? SHELLS[shell]?.() : undefined;
  if (text === undefined) {
    throw cliRefusals.wrongCall('usage: chatops completion bash | zsh | fish');
  }
  process.stdout.write(text);
  return 0;
}

const NAMES = Object.keys(COMMANDS).join(' ');
const cases = (write: (words: string[]) => string) =>
  Object.entries(COMMANDS)
    .map(([name, words]) => `      ${name}) ${write(words)} ;;`)
    .join('\n');

const SHELLS: Record<string, () => string> = {
  bash: () => `_chatops() {
  local current=\${COMP_WORDS[COMP_CWORD]} choices=
  if [ "$COMP_CWORD" -eq 1 ]; then
    choices="${NAMES}"
  else
    case \${COMP_WORDS[1]} in
${cases(words => `choices="${words.join(' ')}"`)}
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
    choices=(${NAMES})
  else
    case $words[2] in
${cases(words => `choices=(${words.join(' ')})`)}
    esac
    _files
  fi
  compadd -a choices
}
compdef _chatops chatops
`,
  fish: () =>
    [
      `complete -c chatops -f -n __fish_use_subcommand -a "${NAMES}"`,
      ...Object.entries(COMMANDS).map(
        ([name, words]) => `complete -c chatops -n "__fish_seen_subcommand_from ${name}" -a "${words.join(' ')}"`,
      ),
      '',
    ].join('\n'),
};
