import { type Refusal, Refused } from '../../protocol/refusal.ts';

function createRefused(code: string, message: string, remedy: string): Refused {
  return new Refused({ code, message, remedy });
}

/** Every way in which the command line itself turns a call down. */
export const cliRefusals = {
  /** `usage` tells how the command is called. */
  wrongCall: (usage: string) =>
    createRefused('wrong-call', usage.trimEnd(), 'Call it like that; "chatops man" tells more.'),
  optionInvalid: (option: string, remedy: string) =>
    createRefused('option-invalid', `${option} can’t be used.`, remedy),
  agentUnreachable: (socket: string, why: string) =>
    createRefused(
      'agent-unreachable',
      `The agent does not answer at ${socket}: ${why}.`,
      'Start it, name its configuration with --config, and run this as its user or root.',
    ),
  goesOn: () =>
    createRefused(
      'agent-unreachable',
      'The agent can’t be reached: the run goes on at the host.',
      'Try again when it can be reached.',
    ),
  noRuns: () => createRefused('run-unknown', 'There are no runs yet.', 'Begin one: chatops run FILE.'),
  severalHosts: () =>
    createRefused(
      'several-hosts',
      'These intents are for several hosts, which the action drives.',
      'Here one agent is spoken with: give it a file of its own.',
    ),
  fileExists: (path: string) =>
    createRefused(
      'file-exists',
      `${path} is there already, and is left as it is.`,
      'Move it away, or name another place.',
    ),
  numbersUnknown: (why: string, repository: string) =>
    createRefused(
      'numbers-unknown',
      `The numbers of ${repository} can’t be had from GitHub: ${why}.`,
      `Give --repository-id and --owner-id: gh api repos/${repository} --jq '.id, .owner.id'. Or take --profile offline, which needs none.`,
    ),
  casesInvalid: (file: string, why: string) =>
    createRefused('cases-invalid', `${file}: ${why}`, 'Correct it; docs/policy.md shows such a file.'),
  keyUnknown: (entry: string, id: string, ids: readonly string[]) =>
    createRefused(
      'key-unknown',
      `"${entry}" has no key ${id}. It has: ${ids.join(', ') || 'none'}.`,
      'Name one of those.',
    ),
  hookUnknown: (name: string, file: string, names: readonly string[]) =>
    createRefused(
      'hook-unknown',
      `There is no hook "${name}" in ${file}. There are: ${names.join(', ') || 'none'}.`,
      'Name one of those.',
    ),
  notBegun: (what: string, begin: string) => createRefused('not-begun', what, `Begin with: ${begin}`),
  credentialKept: (file: string) =>
    createRefused(
      'credential-kept',
      `${file}: systemd gives it to the agent.`,
      'Add the new secret as a further line to the file of LoadCredential=, and restart the agent; take the old line out when nobody uses it any more.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;

/** What a person (or a program, with --json) is told of whatever ended a command: errors of the system and of files too. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refused) return error.refusal;
  const {
    message,
    code,
    remedy = '',
  } = (error instanceof Error ? error : new Error(String(error))) as Error & Partial<Refusal>;
  if (code?.startsWith('ERR_PARSE_ARGS'))
    return { code: 'wrong-call', message: sentence(message), remedy: '"chatops --help" tells how it is called.' };
  if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR' || code === 'EEXIST')
    return {
      code: 'file-unusable',
      message: sentence(message),
      remedy: 'Name another file, or let this user use that one.',
    };
  const isOurs = code !== undefined && /^[a-z]+(-[a-z]+)+$/.test(code);
  return { code: isOurs ? code : 'fault', message, remedy };
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
