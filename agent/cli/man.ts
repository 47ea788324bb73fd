import { VERSION } from '../../protocol/version.ts';
import { COMMANDS } from './completion.ts';
import { cliRefusals } from './refusals.ts';

/** When the page's words were last changed. */
const MAN_DATE = '2026-11-21';

/** What each command is called with, and what it does. */
export const PAGES: Record<string, [synopsis: string, text: string]> = {
  init: [
    'init --repository OWNER/NAME',
    'Writes a first agent.yaml, and a signing key where the profile has one. Nothing that is there is replaced.',
  ],
  agent: ['agent --config FILE', 'Runs the agent that agent.yaml describes. SIGHUP has it read the file again.'],
  config: ['config check FILE', 'Checks an agent.yaml; tells problems with line and column.'],
  doctor: ['doctor', 'Looks at everything that the agent needs, and says what to do about what is wrong.'],
  validate: ['validate FILE…', 'Checks files of intents, and shows what comes after what in them.'],
  run: [
    'run FILE',
    'Has an agent carry out the intents of a file, and shows it live. With --dry-run every step is shown without any agent.',
  ],
  plan: ['plan FILE', 'The same as run --plan: tells what would change.'],
  rollback: ['rollback STACK', 'Brings a stack back to the release before, or to the one that a run left.'],
  runs: ['runs [RUN]', 'Lists runs, the newest first; with an id shows that one.'],
  logs: ['logs [RUN]', 'Shows what a run has told; without an id that of the newest one.'],
  cancel: ['cancel RUN', 'Stops a run, repairs and undoes it, and shows how it ends.'],
  schedule: ['schedule', 'Lists the agent’s own schedules with their next times.'],
  notify: ['notify test [CHANNEL]', 'Tells each channel of agent.yaml, or one, something for a trial.'],
  hook: ['hook rotate NAME', 'Changes the secret of a webhook in two steps, without a delivery being refused.'],
  policy: [
    'policy test CASES.yaml | explain INTENT.yaml',
    'Holds agent.yaml against expectations; or says which rule admits an intent, or why none does.',
  ],
  audit: [
    'audit export | verify',
    'Prints the audit as JSON lines; or follows its chain, and says where it is broken.',
  ],
  key: [
    'key fingerprint KEY | add KEY | remove ID | rotate',
    'Tells what a key is called; trusts one, or no longer; changes the agent’s own key in two steps.',
  ],
  keygen: ['keygen', 'Makes a signing key.'],
  selftest: ['selftest --attack', 'Attacks the agent of this host, and says how it stood; the report is signed.'],
  completion: ['completion bash | zsh | fish', 'Prints what a shell takes in to complete chatops.'],
  man: ['man', 'Prints this page.'],
};

/** What each option means, wherever it stands. */
export const OPTIONS: Record<string, [value: string, text: string]> = {
  '--agent': [
    'URL',
    'An agent elsewhere on the tailnet: ws://NAME:8000 or wss://NAME:8000. For init: the agent’s name.',
  ],
  '--agent-key': ['KEY', 'The public key that it must have; it prints it at its start.'],
  '--approvals': ['N', 'How many approving reviews there are.'],
  '--as': ['NAME', 'Who you are: the repository of the trust entry is laptop/NAME. Default: the user’s name.'],
  '--at': ['TIME', 'As if it were that time (ISO 8601).'],
  '--attack': ['', 'Begin. Without it nothing is done.'],
  '--before': ['RUN', 'Those before that run.'],
  '--config': ['FILE', 'The agent’s configuration. Default: /etc/chatops/agent.yaml.'],
  '--detach': ['', 'Print the run’s id and go.'],
  '--dir': ['FOLDER', 'Where files are written. Default: /etc/chatops.'],
  '--dry-run': ['', 'Show every step; no agent is asked and nothing is started.'],
  '--entry': ['NAME', 'The trust entry of agent.yaml.'],
  '--event': ['NAME', 'The event that is asked about.'],
  '--expect': ['N:DIGEST', 'What row N must have been.'],
  '--finish': ['', 'The second step: the old one goes.'],
  '--follow': ['', 'Until its end. Also -f.'],
  '--json': ['', 'JSON on standard output; a refusal as JSON on standard error.'],
  '--label': ['NAME', 'A label that is set. May be given several times.'],
  '--limit': ['N', 'At most so many. Default: 20.'],
  '--listen': ['ADDRESS:PORT', 'Where the agent listens.'],
  '--out': ['FILE', 'Written there, for nobody else to read.'],
  '--owner-id': ['N', 'The number of the repository’s owner at GitHub.'],
  '--param': ['NAME=VALUE', 'A parameter of the intents. May be given several times.'],
  '--plan': ['', 'Tell what would change, and change nothing.'],
  '--plan-digest': ['', 'As if the command carried one.'],
  '--profile': ['NAME', 'dual, keyless or offline.'],
  '--receipt': ['FILE', 'A receipt whose audit head must be in the chain.'],
  '--repository': ['OWNER/NAME', 'The repository that may deploy.'],
  '--repository-id': ['N', 'Its number at GitHub.'],
  '--signing-key-file': ['FILE', 'The secret key that signs commands, as keygen writes it.'],
  '--socket': ['PATH', 'The agent’s socket, in place of --config.'],
  '--stacks': ['PATTERN', 'Which stacks may be changed. Default: all.'],
  '--timeout': ['DURATION', 'How long to wait for a run’s end. The run itself goes on. Default: 30m.'],
  '--to': ['RUN', 'The run whose state is to come back. Default: the release before.'],
  '--unmerged': ['', 'As if there were no merged pull request.'],
};

/** Prints the manual page, in the words of man(7). */
export function manCommand(args: string[]): number {
  if (args.length > 0) {
    throw cliRefusals.wrongCall('usage: chatops man | man -l -');
  }
  process.stdout.write(renderPage());
  return 0;
}

function renderPage(): string {
  const commands = Object.keys(COMMANDS).flatMap(name => {
    const [synopsis, text] = PAGES[name] ?? [name, ''];
    const options = (COMMANDS[name] ?? []).filter(word => word.startsWith('--'));
    return [
      '.TP',
      `.B ${escapeRoff(synopsis)}`,
      escapeRoff(text),
      ...(options.length > 0 ? ['.br', `Options: ${escapeRoff(options.join(', '))}`] : []),
    ];
  });
  const options = Object.entries(OPTIONS).flatMap(([name, [value, text]]) => [
    '.TP',
    `.B ${escapeRoff(name)}${value === '' ? '' : ` ${escapeRoff(value)}`}`,
    escapeRoff(text),
  ]);
  return `${[
    `.TH CHATOPS 1 ${MAN_DATE} "chatops ${VERSION}"`,
    '.SH NAME',
    escapeRoff('chatops - deployments on machines you own'),
    '.SH SYNOPSIS',
    '.B chatops',
    escapeRoff('COMMAND [OPTION …]'),
    '.SH DESCRIPTION',
    escapeRoff(
      'One program is the agent of a host and its command line. The commands that speak with the agent find it by its configuration or its socket, which is for its owner alone. run, plan, rollback, runs, logs and cancel also speak with an agent elsewhere on the tailnet, as the owner of a signing key: its agent.yaml has an entry of trust for the repository laptop/NAME whose rules name the event laptop under without_approval. schedule, doctor, notify, policy and audit do so too, where that entry names them under may_ask.',
    ),
    '.SH COMMANDS',
    ...commands,
    '.SH OPTIONS',
    ...options,
    '.SH ENVIRONMENT',
    '.TP',
    '.B CHATOPS_AGENT, CHATOPS_AGENT_KEY, CHATOPS_SIGNING_KEY_FILE, CHATOPS_AS',
    escapeRoff('In place of --agent, --agent-key, --signing-key-file and --as.'),
    '.SH EXIT STATUS',
    escapeRoff('0: done. 1: not valid, refused or failed. 2: the call itself was wrong.'),
    '.SH FILES',
    '.TP',
    '.I /etc/chatops/agent.yaml',
    'The host policy.',
    '.TP',
    '.I /var/lib/chatops',
    escapeRoff('The agent’s key, its database, its runs and its socket, agent.sock.'),
  ].join('\n')}\n`;
}

/** Text that roff reads as itself. */
function escapeRoff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '...')
    .replace(/^[.']/, '\\&$&');
}
