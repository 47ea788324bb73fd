import { type Refusal, Refused } from '../../protocol/refusal.ts';

function createRefused(code: string, message: string, remedy: string): Refused {
  return new Refused({ code, message, remedy });
}

/** Every refusal of the command line itself. */
export const cliRefusals = {
  wrongCall: (problem: string, remedy: string) => createRefused('wrong-call', problem, remedy),
  optionInvalid: (option: string, remedy: string) =>
    createRefused('option-invalid', `The value of "${option}" is not valid.`, remedy),
  remoteIncomplete: (option: string, variable: string) =>
    createRefused(
      'option-invalid',
      `"--agent" is given without --${option}.`,
      `Add --${option}, or set ${variable} in the environment.`,
    ),
  agentUnreachable: (socket: string, why: string) =>
    createRefused(
      'agent-unreachable',
      `The agent does not answer at ${socket}: ${why}.`,
      'Start the agent, name its configuration with --config, and run this command as its user or as root.',
    ),
  cancelUnconfirmed: () =>
    createRefused(
      'agent-unreachable',
      'The agent does not answer, so the run continues on the host.',
      'Try again when the agent is reachable.',
    ),
  noRuns: () => createRefused('run-unknown', 'The agent has no runs yet.', 'Start one: chatops run FILE.'),
  severalHosts: () =>
    createRefused(
      'several-hosts',
      'These intents are for several hosts, and this command talks to one agent.',
      'Put the intents of each host into a separate file, or deploy them with the action.',
    ),
  fileExists: (path: string) =>
    createRefused(
      'file-exists',
      `${path} exists and is not replaced.`,
      'Move the file away, or name another folder with --dir.',
    ),
  numbersUnknown: (why: string, repository: string) =>
    createRefused(
      'numbers-unknown',
      `Could not read the numbers of ${repository} from GitHub: ${why}.`,
      `Add --repository-id and --owner-id (gh api repos/${repository} --jq '.id, .owner.id'), or use --profile offline, which needs neither.`,
    ),
  casesInvalid: (file: string, why: string) =>
    createRefused('cases-invalid', `${file}: ${why}`, 'Correct the file; docs/policy.md shows an example.'),
  keyUnknown: (entry: string, id: string, ids: readonly string[]) =>
    createRefused(
      'key-unknown',
      `The trust entry "${entry}" has no key ${id}. It has: ${ids.join(', ') || 'none'}.`,
      'Name one of those keys.',
    ),
  hookUnknown: (name: string, file: string, names: readonly string[]) =>
    createRefused(
      'hook-unknown',
      `There is no hook "${name}" in ${file}. There are: ${names.join(', ') || 'none'}.`,
      'Name one of those hooks.',
    ),
  rotationNotStarted: (problem: string, start: string) => createRefused('not-begun', problem, `Start with: ${start}`),
  credentialKept: (file: string) =>
    createRefused(
      'credential-kept',
      `${file} is a systemd credential, which this command can not change.`,
      'Append the new secret as a line to the file of LoadCredential= and restart the agent. Remove the old line when no sender uses it.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;

/** Returns any error that ended a command as a refusal: errors of the system and of files too. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refused) return error.refusal;
  const {
    message,
    code,
    remedy = '',
  } = (error instanceof Error ? error : new Error(String(error))) as Error & Partial<Refusal>;
  if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR' || code === 'EEXIST')
    return {
      code: 'file-unusable',
      message: /[.!?]$/.test(message) ? message : `${message}.`,
      remedy: 'Name another file, or give this user access to it.',
    };
  const isOurs = code !== undefined && /^[a-z]+(-[a-z]+)+$/.test(code);
  return { code: isOurs ? code : 'fault', message, remedy };
}
