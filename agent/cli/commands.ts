import type { ArgumentSpec, ArgumentValues, CommandSpec, OptionSpec, OptionValues } from './command-spec.ts';
import { CONFIG, CONFIG_PATH, JSON_OUTPUT, LOCAL_OPTIONS, REMOTE, SOCKET_OPTION } from './shared-options.ts';

const PARAM = {
  name: 'param',
  value: 'NAME=VALUE',
  text: 'A parameter of the intents.',
  repeatable: true,
} as const satisfies OptionSpec;
const PLAN = { name: 'plan', text: 'Show what would change, and change nothing.' } as const satisfies OptionSpec;
const DETACH = { name: 'detach', text: 'Print the id of the run and return.' } as const satisfies OptionSpec;
const DRY_RUN = {
  name: 'dry-run',
  text: 'Show every step. No agent is asked, nothing is started, and only a --config that is given is read.',
} as const satisfies OptionSpec;
const ENTRY = {
  name: 'entry',
  value: 'NAME',
  text: 'The trust entry of agent.yaml.',
  required: true,
} as const satisfies OptionSpec;
const FINISH = { name: 'finish', text: 'The second step: remove the old one.' } as const satisfies OptionSpec;
const INTENT_FILE = { name: 'FILE', text: 'A file of intents.' } as const satisfies ArgumentSpec;
const RUN_ID = { name: 'RUN', text: 'The id of a run.' } as const satisfies ArgumentSpec;

/** One-line texts of the commands that have subcommands. */
export const GROUPS: Record<string, string> = {
  config: 'check the configuration of an agent',
  hook: 'manage the secrets of webhooks',
  notify: 'send notices',
  audit: 'export and verify the audit log',
  policy: 'test, explain and extend the policy of a host',
  key: 'manage keys',
};

/** Every command of `chatops`, in the order of its help. */
export const COMMANDS = [
  {
    name: 'init',
    text: 'write a first agent.yaml and a signing key',
    details: 'The profiles dual and offline have a signing key. Existing files are never replaced.',
    options: [
      { name: 'repository', value: 'OWNER/NAME', text: 'The repository that may deploy.', required: true },
      {
        name: 'profile',
        value: 'NAME',
        text: 'How senders authenticate: with a key and a GitHub token, with a token, or with a key.',
        choices: ['dual', 'keyless', 'offline'],
        default: 'dual',
      },
      { name: 'agent', value: 'NAME', text: 'The name of the agent. Default: the host name.' },
      {
        name: 'listen',
        value: 'ADDRESS:PORT',
        text: 'The address to listen on. Default: the address in the tailnet, port 8000.',
      },
      { name: 'repository-id', value: 'N', text: 'The number of the repository at GitHub.' },
      { name: 'owner-id', value: 'N', text: 'The number of the owner of the repository at GitHub.' },
      {
        name: 'label',
        value: 'NAME',
        text: 'The label that a pull request needs for a deployment.',
        default: 'approved',
      },
      { name: 'stacks', value: 'PATTERN', text: 'The stacks that may be changed.', default: '*' },
      { name: 'dir', value: 'FOLDER', text: 'The folder for the files.', default: '/etc/chatops' },
      {
        name: 'github-api',
        value: 'URL',
        text: 'The address of the API of GitHub.',
        default: 'https://api.github.com',
        hidden: true,
      },
      JSON_OUTPUT,
    ],
    examples: [
      'chatops init --repository octo/homelab',
      'chatops init --repository octo/homelab --profile keyless --label deploy',
    ],
  },
  {
    name: 'agent',
    text: 'run the agent that agent.yaml describes',
    details: 'SIGHUP makes the agent read the file again. SIGTERM and SIGINT stop it; running steps continue.',
    options: [CONFIG],
  },
  {
    name: 'config check',
    text: 'check an agent.yaml',
    details: 'Reports each problem with line and column.',
    arguments: [{ name: 'FILE', text: 'The agent.yaml.' }],
    options: [JSON_OUTPUT],
  },
  {
    name: 'doctor',
    text: 'check everything that the agent needs, with a remedy for each problem',
    options: [CONFIG, ...REMOTE, JSON_OUTPUT],
  },
  {
    name: 'validate',
    text: 'check files of intents and show their order',
    arguments: [{ ...INTENT_FILE, variadic: true }],
    options: [JSON_OUTPUT],
  },
  {
    name: 'run',
    text: 'execute the intents of a file on an agent and show the run live',
    arguments: [INTENT_FILE],
    options: [PLAN, DRY_RUN, DETACH, PARAM, CONFIG_PATH, SOCKET_OPTION, JSON_OUTPUT, ...REMOTE],
    examples: ['chatops run scale.yaml --param replicas=3', 'chatops run rollout.yaml --dry-run'],
  },
  {
    name: 'plan',
    text: 'show what a run would change; the same as "run --plan"',
    arguments: [INTENT_FILE],
    options: [DRY_RUN, DETACH, PARAM, CONFIG_PATH, SOCKET_OPTION, JSON_OUTPUT, ...REMOTE],
  },
  {
    name: 'rollback',
    text: 'return a stack to its previous release or to the release of a run',
    arguments: [{ name: 'STACK', text: 'The name of the stack.' }],
    options: [
      { name: 'to', value: 'RUN', text: 'The run to return to. Default: the previous release.' },
      PLAN,
      DETACH,
      ...LOCAL_OPTIONS,
      ...REMOTE,
    ],
  },
  {
    name: 'runs',
    text: 'list runs, newest first, or show one run',
    arguments: [{ ...RUN_ID, optional: true }],
    options: [
      { name: 'limit', value: 'N', text: 'The number of runs to list.', default: '20' },
      { name: 'before', value: 'RUN', text: 'List only runs that are older than this one.' },
      ...LOCAL_OPTIONS,
      ...REMOTE,
    ],
  },
  {
    name: 'logs',
    text: 'show the log of a run (default: the newest run)',
    arguments: [{ ...RUN_ID, optional: true }],
    options: [{ name: 'follow', short: 'f', text: 'Follow the run until it ends.' }, ...LOCAL_OPTIONS, ...REMOTE],
    examples: ['chatops logs -f'],
  },
  {
    name: 'cancel',
    text: 'stop a run, repair and undo it, and show the result',
    arguments: [RUN_ID],
    options: [...LOCAL_OPTIONS, ...REMOTE],
  },
  {
    name: 'hook rotate',
    text: 'change the secret of a webhook in two steps',
    details: 'Between the two steps both secrets are valid, so no delivery is refused.',
    arguments: [{ name: 'NAME', text: 'The name of the hook in agent.yaml.' }],
    options: [FINISH, CONFIG, JSON_OUTPUT],
    examples: ['chatops hook rotate uptime', 'chatops hook rotate uptime --finish'],
    page: 'keys.md',
  },
  {
    name: 'notify test',
    text: 'send a test notice to one channel or to all',
    arguments: [{ name: 'CHANNEL', text: 'The name of a channel in agent.yaml.', optional: true }],
    options: [...LOCAL_OPTIONS, ...REMOTE],
    page: 'notices.md',
  },
  {
    name: 'schedule',
    text: 'list the schedules of the agent with their next times',
    options: [...LOCAL_OPTIONS, ...REMOTE],
    page: 'schedules.md',
  },
  {
    name: 'audit export',
    text: 'print the audit log as JSON lines',
    options: [...LOCAL_OPTIONS, ...REMOTE],
  },
  {
    name: 'audit verify',
    text: 'verify the chain of the audit log and report the first broken row',
    options: [
      { name: 'expect', value: 'N:DIGEST', text: 'The digest that row N must have.', repeatable: true },
      {
        name: 'receipt',
        value: 'FILE',
        text: 'A receipt, or the output "result" of the action, whose audit head must be in the chain.',
        repeatable: true,
      },
      ...LOCAL_OPTIONS,
      ...REMOTE,
    ],
  },
  {
    name: 'policy test',
    text: 'compare the decisions of agent.yaml with expectations',
    arguments: [{ name: 'CASES', text: 'A file of expectations.', variadic: true }],
    options: [CONFIG, JSON_OUTPUT, ...REMOTE],
    page: 'policy.md',
  },
  {
    name: 'policy explain',
    text: 'show the rule that allows an intent, or why no rule does',
    arguments: [INTENT_FILE],
    options: [
      ENTRY,
      { name: 'event', value: 'NAME', text: 'The event that the command comes from.', default: 'push' },
      { name: 'label', value: 'NAME', text: 'A label that is set.', repeatable: true },
      { name: 'approvals', value: 'N', text: 'The number of approving reviews.', default: '0' },
      { name: 'unmerged', text: 'Assume that there is no merged pull request.' },
      { name: 'plan-digest', text: 'Assume that the command carries the digest of a plan.' },
      { name: 'at', value: 'TIME', text: 'Assume this time (ISO 8601).' },
      PARAM,
      CONFIG,
      JSON_OUTPUT,
      ...REMOTE,
    ],
    examples: ['chatops policy explain rollout.yaml --entry main --label approved'],
    page: 'policy.md',
  },
  {
    name: 'policy suggest',
    text: 'print the exceptions that the compose file of a stack needs',
    details: 'The output is text for agent.yaml. Each line has its risk. Nothing is changed.',
    arguments: [{ name: 'STACK', text: 'A folder in stacks.root.' }],
    options: [
      { name: 'file', value: 'FILE', text: 'The compose file, if it is not the one that compose finds by itself.' },
      CONFIG,
      JSON_OUTPUT,
    ],
    examples: ['chatops policy suggest plex'],
    page: 'agent.md',
  },
  {
    name: 'key fingerprint',
    text: 'print the id of a key, as the log and the audit log show it',
    arguments: [{ name: 'KEY', text: 'A key, or a file with a key.' }],
    options: [CONFIG, JSON_OUTPUT],
  },
  {
    name: 'key add',
    text: 'trust another signing key immediately',
    arguments: [{ name: 'KEY', text: 'A public key.' }],
    options: [ENTRY, CONFIG, JSON_OUTPUT],
    page: 'keys.md',
  },
  {
    name: 'key remove',
    text: 'stop trusting a signing key immediately, also on open connections',
    arguments: [{ name: 'ID', text: 'The id of a key.' }],
    options: [ENTRY, CONFIG, JSON_OUTPUT],
    page: 'keys.md',
  },
  {
    name: 'key rotate',
    text: 'change the key of the agent itself in two steps',
    details: 'Between the two steps the agent signs with both keys.',
    options: [FINISH, CONFIG, JSON_OUTPUT],
    page: 'keys.md',
  },
  {
    name: 'selftest',
    text: 'attack the agent of this host and report each result',
    details: 'The agent signs the report.',
    options: [
      { name: 'attack', text: 'Confirm the attack. Nothing is done without it.', required: true },
      { name: 'out', value: 'FILE', text: 'Also write the report to this file.' },
      CONFIG,
      JSON_OUTPUT,
    ],
    page: 'security.md',
  },
  {
    name: 'keygen',
    text: 'make a signing key',
    options: [
      { name: 'out', value: 'FILE', text: 'Write the secret to this file, readable only by its owner (0600).' },
      JSON_OUTPUT,
    ],
  },
  {
    name: 'completion',
    text: 'print a shell completion script',
    arguments: [{ name: 'SHELL', text: 'The shell.', choices: ['bash', 'zsh', 'fish'] }],
    examples: ['eval "$(chatops completion bash)"'],
  },
  {
    name: 'man',
    text: 'print the manual page',
    examples: ['chatops man | man -l -'],
  },
  {
    name: 'keeper',
    text: 'supervise the processes of one run; the agent starts it',
    hidden: true,
  },
  {
    name: 'proxmox',
    text: 'call the API of Proxmox like one of its programs; the agent starts it',
    arguments: [
      { name: 'ARGUMENT', text: 'The program, the file with the access data, and arguments.', variadic: true },
    ],
    hidden: true,
  },
] as const satisfies CommandSpec[];

type Command = (typeof COMMANDS)[number];
export type CommandName = Command['name'];
type Spec<Name extends CommandName> = Extract<Command, { name: Name }>;

/** The options of a command by name, as its function gets them. */
export type Options<Name extends CommandName> =
  Spec<Name> extends { options: infer O extends readonly OptionSpec[] } ? OptionValues<O> : Record<never, never>;

/** The arguments of a command, as its function gets them. */
export type Arguments<Name extends CommandName> =
  Spec<Name> extends { arguments: infer A extends readonly ArgumentSpec[] } ? ArgumentValues<A> : [];

/** The commands that help, completions and docs show. */
export const SHOWN_COMMANDS: readonly CommandSpec[] = COMMANDS.filter(command => !('hidden' in command));

/** Returns the commands that a first word selects: one, or the subcommands of a group. */
export function selectCommands(word: string): readonly CommandSpec[] {
  return COMMANDS.filter(({ name }) => name === word || name.startsWith(`${word} `));
}
