import type { Refusal } from '../protocol/refusal.ts';

/** The label `reason` of `chatops_auth_failures_total`. */
export type AuthReason =
  | 'ip_blocked'
  | 'invalid_key'
  | 'expired'
  | 'replayed'
  | 'rate_limited'
  | 'not_allowed'
  | 'label_mismatch';

/** Builds one refusal. `countsAs` is set if the refusal is about trust: the reason under which the metrics count it. */
interface RefusalBuilder<A extends unknown[]> {
  (...args: A): Refusal;
  readonly code: string;
  readonly countsAs?: AuthReason;
  /** Returns message and remedy. Its parameter names are the placeholders in docs/refusals.md. */
  readonly text: (...args: A) => readonly [message: string, remedy: string];
}

function refusal<A extends unknown[]>(
  code: string,
  { countsAs }: { countsAs?: AuthReason },
  text: RefusalBuilder<A>['text'],
): RefusalBuilder<A> {
  const build = (...args: A): Refusal => {
    const [message, remedy] = text(...args);
    return { code, message, remedy };
  };
  return Object.assign(build, { code, text, ...(countsAs ? { countsAs } : {}) });
}

/** Every refusal of the agent: thing, state, cause; then the remedy. */
export const refusals = {
  addressNotAllowed: refusal('address-not-allowed', { countsAs: 'ip_blocked' }, (address: string) => [
    `The address ${address} is not in allow_from of agent.yaml.`,
    'Connect over Tailscale, or add the address to allow_from.',
  ]),
  originNotAllowed: refusal('origin-not-allowed', { countsAs: 'not_allowed' }, () => [
    'The request has an Origin header: the agent does not serve browsers.',
    'Use the action or the chatops command line.',
  ]),
  hostNotOwn: refusal('host-not-own', { countsAs: 'not_allowed' }, (host: string) => [
    `This agent does not answer to the host name "${host.slice(0, 253)}".`,
    'Use its address or its tailnet name, or add the name to doors.hosts in agent.yaml.',
  ]),
  doorClosed: refusal('door-closed', { countsAs: 'not_allowed' }, () => [
    'This endpoint requires a bearer token.',
    'Send "Authorization: Bearer …" with the token of doors.token_file in agent.yaml.',
  ]),
  tooManyConnections: refusal('too-many-connections', { countsAs: 'rate_limited' }, (limit: number, kind: string) => [
    `More than ${limit} connections ${kind} are open: the agent closed the oldest one.`,
    'Close some, or raise limits.connections and limits.connections_per_address in agent.yaml.',
  ]),
  rateLimited: refusal('rate-limited', { countsAs: 'rate_limited' }, (seconds: number) => [
    `This address opened too many connections; the agent serves it again in ${seconds} s.`,
    'Wait, or raise rate_limit in agent.yaml.',
  ]),
  helloTimeout: refusal('hello-timeout', {}, (seconds: number) => [
    `No signed offer of a command arrived within ${seconds} s.`,
    'Send the offer right after the hello of the agent.',
  ]),
  commandTimeout: refusal('command-timeout', {}, (seconds: number) => [
    `No further part of the offered command arrived within ${seconds} s.`,
    'Run the job again; if it happens again, look for a connection that is too slow.',
  ]),
  protocolUnsupported: refusal('protocol-unsupported', {}, (offered: string, own: string) => [
    `The client does not speak ${own}: it offers "${offered.slice(0, 100)}".`,
    'Use the action, or the chatops command line, of the agent’s version.',
  ]),
  frameMalformed: refusal('frame-malformed', {}, (cause: string) => [
    `The frame is malformed: ${cause.slice(0, 200)}.`,
    'Use an action of the same major version as the agent.',
  ]),
  tokenMissing: refusal('token-missing', { countsAs: 'invalid_key' }, (entry: string) => [
    `The trust entry "${entry}" requires a GitHub token in addition to the signature; the command has no token.`,
    'Give the job "permissions: id-token: write", and leave the input "oidc" at auto.',
  ]),
  tokenInvalid: refusal('token-invalid', { countsAs: 'invalid_key' }, (cause: string) => [
    `The GitHub token was rejected: ${cause}.`,
    'Let the action request the token itself, with the correct agent name; the issuer is oidc.issuer in agent.yaml.',
  ]),
  tokenExpired: refusal('token-expired', { countsAs: 'expired' }, (cause: string) => [
    `The GitHub token is too old: ${cause}.`,
    'Run the job again; if it happens again, check the clock of this host.',
  ]),
  tokenReplayed: refusal('token-replayed', { countsAs: 'replayed' }, () => [
    'The GitHub token was already used.',
    'Run the job again: each command has its own token.',
  ]),
  tokenKeysUnreachable: refusal(
    'token-keys-unreachable',
    { countsAs: 'not_allowed' },
    (issuer: string, cause: string) => [
      `Could not fetch the signing keys of ${issuer}: ${cause}.`,
      'Let the host reach the issuer, or set oidc.jwks_file in agent.yaml to a file with its keys.',
    ],
  ),
  tokenNotAllowed: refusal('token-not-allowed', { countsAs: 'not_allowed' }, (claim: string, value: string) => [
    `No trust entry accepts a GitHub token whose ${claim} is ${value}.`,
    'Correct "github" in the trust entry of agent.yaml, or run the workflow that it names.',
  ]),
  tokenMismatch: refusal('token-mismatch', { countsAs: 'not_allowed' }, (claim: string) => [
    `The ${claim} of the GitHub token differs from the command.`,
    'Send the command from the job that requested the token.',
  ]),
  tailnetUnreachable: refusal('tailnet-unreachable', { countsAs: 'not_allowed' }, (socket: string, cause: string) => [
    `Could not ask Tailscale (${socket}) who the caller is: ${cause}.`,
    'Start tailscaled on the host, or correct tailscale.socket in agent.yaml.',
  ]),
  peerUnknown: refusal('peer-unknown', { countsAs: 'not_allowed' }, (address: string) => [
    `The address ${address} is not a node of this tailnet.`,
    "Connect directly over Tailscale: a proxy hides the caller's address.",
  ]),
  peerNotAllowed: refusal('peer-not-allowed', { countsAs: 'not_allowed' }, (node: string, details: string) => [
    `The trust entry does not accept the node ${node} (${details}).`,
    'Correct "tailscale" of the entry in agent.yaml, or the tags and grants of the tailnet.',
  ]),
  githubUnreachable: refusal('github-unconfirmed', { countsAs: 'not_allowed' }, (cause: string) => [
    `Could not ask GitHub to confirm the command: ${cause}.`,
    'Let the host reach github.api_url, and check that the token of github.token_file can read the repository.',
  ]),
  notConfirmed: refusal('not-confirmed', { countsAs: 'not_allowed' }, (cause: string) => [
    `GitHub does not confirm the command: ${cause}.`,
    'If you did not send this command, the signing key is stolen: remove it from agent.yaml and send SIGHUP.',
  ]),
  olderThanDeployed: refusal('older-than-deployed', {}, (sha: string, last: string) => [
    `The commit ${sha} does not descend from ${last}, which this host deployed last.`,
    'Nothing was deployed. Run the newest job, or go back with a rollback.',
  ]),
  historyRewritten: refusal('history-rewritten', {}, (sha: string, last: string) => [
    `The commit ${last}, which this host deployed last, is not in the history of ${sha}: a forced push replaced it.`,
    'Nothing was deployed. Run one job with the input "allow-older: true"; the rule of agent.yaml that allows it needs "allow_older: true".',
  ]),
  deployedMeanwhile: refusal('deployed-meanwhile', {}, (intent: string, last: string) => [
    `The host has deployed "${intent}" at ${last} since the evidence was gathered.`,
    'Nothing was deployed. Run the job again: the action gathers the evidence only once more by itself.',
  ]),
  coverageMissing: refusal('coverage-missing', { countsAs: 'not_allowed' }, (what: string) => [
    `The command has no evidence for ${what}.`,
    'Use an action of the version of the agent: it gathers the evidence for each change since the last deployment.',
  ]),
  olderNotAllowed: refusal('older-not-allowed', { countsAs: 'not_allowed' }, (rule: string) => [
    `The rule ${rule} does not allow a commit that does not descend from the last deployment.`,
    'Leave out the input "allow-older", or set allow_older in the rule of agent.yaml.',
  ]),
  signatureInvalid: refusal('signature-invalid', { countsAs: 'invalid_key' }, () => [
    'No trusted key signed this command.',
    'Add the public half of signing-key under trust in agent.yaml, and send SIGHUP to the agent.',
  ]),
  challengeStale: refusal('challenge-stale', { countsAs: 'expired' }, () => [
    'The command answers a challenge that is too old or belongs to another connection.',
    'Run the job again; the action answers a new challenge each time.',
  ]),
  challengeReplayed: refusal('challenge-replayed', { countsAs: 'replayed' }, () => [
    'This challenge was already answered.',
    'Run the job again. If you did not send the command twice, an attacker replays your traffic.',
  ]),
  commandMalformed: refusal('command-malformed', {}, (cause: string) => [
    `The signed command is malformed: ${cause}`,
    'Use an action of the same major version as the agent.',
  ]),
  audienceMismatch: refusal('audience-mismatch', { countsAs: 'not_allowed' }, (audience: string, agent: string) => [
    `The command is for the agent "${audience}"; this agent is "${agent}".`,
    'Correct the input "agent" in the workflow, or "agent" in agent.yaml.',
  ]),
  repositoryNotAllowed: refusal(
    'repository-not-allowed',
    { countsAs: 'not_allowed' },
    (repository: string, keyId: string) => [
      `The key ${keyId} is not trusted for the repository ${repository}.`,
      'Correct "repository" of its trust entry in agent.yaml, or use the key of that repository.',
    ],
  ),
  actionNotAllowed: refusal('action-not-allowed', { countsAs: 'not_allowed' }, (action: string, stack: string) => [
    `This host does not allow "${action}" on ${stack} with this key.`,
    'Add the action to an allow rule of the trust entry in agent.yaml.',
  ]),
  stackNotAllowed: refusal('stack-not-allowed', { countsAs: 'not_allowed' }, (stack: string) => [
    `This host does not allow this key to change ${stack}.`,
    'Add the stack to an allow rule of the trust entry in agent.yaml.',
  ]),
  stackUnresolved: refusal('stack-unresolved', { countsAs: 'not_allowed' }, (subject: string, cause: string) => [
    `The stack of ${subject} is not known: ${cause}.`,
    'Correct the intent or the host. Only an entry with a rule for all stacks ("*") and no deny rule for stacks admits it.',
  ]),
  denied: refusal('denied', { countsAs: 'not_allowed' }, (rule: string, subject: string) => [
    `The rule "${rule}" of this host denies ${subject}.`,
    'Change the intent, or the rule under deny of the trust entry in agent.yaml.',
  ]),
  guestNotAllowed: refusal('guest-not-allowed', { countsAs: 'not_allowed' }, (guest: string) => [
    `This host does not allow this key to use the guest ${guest}.`,
    'Add its number to "guests" of an allow rule in agent.yaml.',
  ]),
  kindNotAllowed: refusal('kind-not-allowed', { countsAs: 'not_allowed' }, (kind: string) => [
    `This host does not allow this key backups, restores or drills of the kind ${kind}.`,
    'Add the kind to "kinds" of an allow rule in agent.yaml.',
  ]),
  placeNotAllowed: refusal('place-not-allowed', { countsAs: 'not_allowed' }, (place: string) => [
    `This host does not allow this key backups at ${place}.`,
    'Add the place to "destinations" of an allow rule in agent.yaml.',
  ]),
  outsideWindow: refusal('outside-window', { countsAs: 'not_allowed' }, (windows: string[]) => [
    `The time is outside the rule's windows: ${windows.join('; ')}.`,
    'Run the job again within a window, or change "windows" of the rule in agent.yaml.',
  ]),
  planDigestMissing: refusal('plan-digest-missing', { countsAs: 'not_allowed' }, () => [
    'This host requires the digest of a reviewed plan; the command has no plan-digest.',
    'Make a plan (mode: plan), and give its output plan-digest to the deployment as the input plan-digest.',
  ]),
  capabilityNotAllowed: refusal(
    'capability-not-allowed',
    { countsAs: 'not_allowed' },
    (action: string, stack: string) => [
      `The grants of the tailnet do not let this node "${action}" on ${stack}.`,
      'Widen the capability in the policy file of the tailnet. It can only narrow what agent.yaml allows.',
    ],
  ),
  runRateReached: refusal(
    'run-rate-reached',
    { countsAs: 'rate_limited' },
    (entry: string, runs: number, per: string) => [
      `The trust entry "${entry}" has used its ${runs} runs of the last ${per}.`,
      'Wait, or raise "rate" of the entry in agent.yaml.',
    ],
  ),
  approvalMissing: refusal('approval-missing', { countsAs: 'label_mismatch' }, (event: string) => [
    `A command from the event "${event}" requires a merged pull request.`,
    'Merge a labelled pull request, or add the event to without_approval of the allow rule in agent.yaml.',
  ]),
  stackUnknown: refusal('stack-unknown', {}, (stack: string, folder: string) => [
    `The stack "${stack}" does not exist: ${folder} is not a folder of this host.`,
    'Create the folder on the host (also for a rollout with source_dir), or correct the name of the stack.',
  ]),
  pathOutside: refusal('path-outside', { countsAs: 'not_allowed' }, (path: string, root: string) => [
    `The path ${path} is not in ${root}, or goes through a link.`,
    'Correct the path in the intent, or replace the link on the host with the folder itself.',
  ]),
  fileNotAllowed: refusal('file-not-allowed', { countsAs: 'not_allowed' }, (path: string, cause: string) => [
    `The shipped file ${JSON.stringify(path)} is not allowed: ${cause}.`,
    'Correct the files under source_dir.',
  ]),
  verifyRequired: refusal('verify-required', {}, (stack: string) => [
    `This host requires "verify" for changes of ${stack}; the intent has none.`,
    'Add "verify" to the intent: an address that must answer, or how long the services must stay healthy.',
  ]),
  verifyAddressNotAllowed: refusal('verify-address-not-allowed', { countsAs: 'not_allowed' }, (host: string) => [
    `The policy of this host does not let "verify" connect to ${host}.`,
    'Use loopback or a service of the stack, or add the address to verify.allow in agent.yaml.',
  ]),
  idReused: refusal('id-reused', { countsAs: 'replayed' }, (id: string) => [
    `The command id ${id} was already used with other content.`,
    'Run the job again; the action makes a new id each time.',
  ]),
  runUnknown: refusal('run-unknown', {}, (run: string) => [
    `This agent has no run ${run}.`,
    'Check the id of the run, and that this agent executed it.',
  ]),
  undoNotPossible: refusal('undo-not-possible', {}, (run: string, cause: string) => [
    `The run ${run} cannot be undone: ${cause}.`,
    'Look at the run ("chatops runs ID"), and restore its stacks with "action: rollback".',
  ]),
  graphInvalid: refusal('graph-invalid', {}, (cause: string) => [
    `The documents cannot be put in an order: ${cause}. Nothing was started.`,
    'Check the file (mode: validate), and use an action of the same version as the agent.',
  ]),
  notYourRun: refusal('not-your-run', { countsAs: 'not_allowed' }, (run: string) => [
    `The run ${run} was started under another trust entry.`,
    'Use a key of the trust entry that started it.',
  ]),
  questionNotAllowed: refusal('question-not-allowed', { countsAs: 'not_allowed' }, (entry: string, topic: string) => [
    `The trust entry "${entry}" may not ask this agent about: ${topic}.`,
    `Add "may_ask: [${topic}]" to the entry in agent.yaml, or ask on the host itself.`,
  ]),
  entryUnknown: refusal('entry-unknown', {}, (entry: string, entries: readonly string[]) => [
    `The trust entry "${entry.slice(0, 128)}" does not exist in agent.yaml. Existing entries: ${entries.join(', ')}.`,
    'Use one of these entries.',
  ]),
  runEnded: refusal('run-ended', {}, (run: string, outcome: string) => [
    `The run ${run} has already ended: ${outcome}.`,
    'Do nothing: there is nothing left to cancel.',
  ]),
  stateUnwritable: refusal('state-unwritable', {}, (cause: string) => [
    `The agent cannot write its state: ${cause}.`,
    'Free space in state_dir, and let the user of the agent write there.',
  ]),
  hookUnknown: refusal('hook-unknown', { countsAs: 'not_allowed' }, (hook: string) => [
    `The hook "${hook.slice(0, 100)}" does not exist.`,
    'Add it under hooks in agent.yaml, or correct the address.',
  ]),
  hookUnauthorized: refusal('hook-unauthorized', { countsAs: 'invalid_key' }, (hook: string) => [
    `The delivery to the hook "${hook}" is not authenticated.`,
    'Give the sender the secret of the hook in agent.yaml: as HMAC secret, as bearer token, or at the end of the address.',
  ]),
  hookMethod: refusal('hook-method', { countsAs: 'not_allowed' }, (hook: string, method: string) => [
    `The hook "${hook}" got a ${method} request.`,
    'Set the method POST in the sender.',
  ]),
  hookMediaType: refusal('hook-media-type', { countsAs: 'not_allowed' }, (hook: string, what: string) => [
    `The delivery to the hook "${hook}" is ${what}.`,
    'Let the sender send plain JSON: "Content type: application/json" in GitHub, "Request Body: JSON" in Uptime Kuma.',
  ]),
  hookMalformed: refusal('hook-malformed', { countsAs: 'not_allowed' }, (hook: string, cause: string) => [
    `The delivery to the hook "${hook}" is malformed: ${cause}.`,
    'Send JSON, and check the hook and its intent on the host.',
  ]),
  hookParam: refusal('hook-param', { countsAs: 'not_allowed' }, (hook: string, param: string, path: string) => [
    `The hook "${hook}" takes the parameter "${param}" from ${path}, whose value does not match the pattern.`,
    'Correct "params" of the hook in agent.yaml, or the payload of the sender.',
  ]),
  hookCooldown: refusal('hook-cooldown', { countsAs: 'rate_limited' }, (hook: string, seconds: number) => [
    `The hook "${hook}" started a run a moment ago; the next run can start in ${seconds} s.`,
    'Wait, or shorten "cooldown" of the hook in agent.yaml.',
  ]),
  hookLimit: refusal('hook-limit', { countsAs: 'rate_limited' }, (hook: string, limit: number) => [
    `The hook "${hook}" has started its ${limit} runs of this hour.`,
    'Find the service that flaps, or raise "max_per_hour" of the hook in agent.yaml.',
  ]),
  noSelftest: refusal('no-selftest', {}, () => [
    'No selftest is running.',
    'Start a selftest: chatops selftest --attack.',
  ]),
  shuttingDown: refusal('shutting-down', {}, () => [
    'The agent is stopping and accepts no new commands.',
    'Run the job again when the agent is back.',
  ]),
} satisfies Record<string, RefusalBuilder<never[]>>;

/** Returns the metrics' reason by refusal code. Codes without one are not about trust. */
export const AUTH_REASONS: Readonly<Record<string, AuthReason>> = {
  ...Object.fromEntries(
    Object.values(refusals).flatMap(({ code, countsAs }) => (countsAs ? [[code, countsAs] as const] : [])),
  ),
  // The protocol checks these for both sides; see protocol/labels.ts.
  'label-missing': 'label_mismatch',
  'label-early': 'label_mismatch',
  'label-unproven': 'label_mismatch',
  'label-by-unauthorized': 'label_mismatch',
  'approvals-missing': 'label_mismatch',
};
