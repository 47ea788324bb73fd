import type { OptionSpec } from './command-spec.ts';

/** Headings of options that several commands share. */
const LOCAL_GROUP = 'Agent of this host:';
const REMOTE_GROUP = 'Agent elsewhere in the tailnet:';
const OUTPUT_GROUP = 'Output:';

/** The option without its default: `run` must know whether the user named a file. */
export const CONFIG_PATH = {
  name: 'config',
  value: 'FILE',
  text: 'The configuration of the agent. Default: /etc/chatops/agent.yaml.',
  group: LOCAL_GROUP,
} as const satisfies OptionSpec;

export const CONFIG = { ...CONFIG_PATH, default: '/etc/chatops/agent.yaml' } as const satisfies OptionSpec;

export const SOCKET_OPTION = {
  name: 'socket',
  value: 'PATH',
  text: 'The socket of the agent, instead of --config.',
  group: LOCAL_GROUP,
} as const satisfies OptionSpec;

export const JSON_OUTPUT = {
  name: 'json',
  text: 'Print JSON; an error is JSON on standard error.',
  group: OUTPUT_GROUP,
} as const satisfies OptionSpec;

/** Options of every command that talks to the agent of this host. */
export const LOCAL_OPTIONS = [CONFIG, SOCKET_OPTION, JSON_OUTPUT] as const satisfies OptionSpec[];

/** Options of the commands that also talk to an agent elsewhere, over the tailnet. */
export const REMOTE = [
  {
    name: 'agent',
    value: 'URL',
    text: 'The address of the agent: ws://NAME:8000 or wss://NAME:8000.',
    variable: 'CHATOPS_AGENT',
    group: REMOTE_GROUP,
  },
  {
    name: 'agent-key',
    value: 'KEY',
    text: 'The public key of the agent, which it logs when it starts.',
    variable: 'CHATOPS_AGENT_KEY',
    group: REMOTE_GROUP,
  },
  {
    name: 'signing-key-file',
    value: 'FILE',
    text: 'The secret key that signs commands, as "chatops keygen" writes it.',
    variable: 'CHATOPS_SIGNING_KEY_FILE',
    group: REMOTE_GROUP,
  },
  {
    name: 'as',
    value: 'NAME',
    text: 'The sender: the trust entry is for the repository laptop/NAME. Default: the name of the user.',
    variable: 'CHATOPS_AS',
    group: REMOTE_GROUP,
  },
  {
    name: 'timeout',
    value: 'DURATION',
    text: 'The longest wait for the end of a run. The run itself continues.',
    default: '30m',
    group: REMOTE_GROUP,
  },
] as const satisfies OptionSpec[];
