import type { Refusal } from '../protocol/refusal.ts';

function refusal(code: string, message: string, remedy: string): Refusal {
  return { code, message, remedy };
}

/** Every way in which this agent turns a command away, in one voice: what happened, and what a person does next. */
export const refusals = {
  addressNotAllowed: (address: string) =>
    refusal(
      'address-not-allowed',
      `The address ${address} may not talk to this agent.`,
      'Connect over Tailscale, or add the address to allow_from in agent.yaml.',
    ),
  originNotAllowed: () =>
    refusal(
      'origin-not-allowed',
      'Requests from a browser (with an Origin header) are not served.',
      'Use the action or the chatops command line.',
    ),
  hostNotOwn: (host: string) =>
    refusal(
      'host-not-own',
      `"${host}" is no name of this agent.`,
      'Call it by its address or its name in the tailnet, or add the name to doors.hosts in agent.yaml.',
    ),
  doorClosed: () =>
    refusal(
      'door-closed',
      'This door wants a token.',
      'Send "Authorization: Bearer …" with the token of doors.token_file in agent.yaml.',
    ),
  tooManyConnections: (limit: number) =>
    refusal(
      'too-many-connections',
      `The address has ${limit} connections open already.`,
      'Close some, or raise limits.connections_per_address in agent.yaml.',
    ),
  rateLimited: (seconds: number) =>
    refusal(
      'rate-limited',
      `Too many connections from this address; the next one is served in ${seconds} s.`,
      'Wait, or raise rate_limit in agent.yaml.',
    ),
  helloTimeout: (seconds: number) =>
    refusal(
      'hello-timeout',
      `No signed command came within ${seconds} s.`,
      'Send the command right after the agent’s hello.',
    ),
  frameMalformed: (why: string) =>
    refusal(
      'frame-malformed',
      `The frame can't be read: ${why}.`,
      'Use an action of the same major version as the agent.',
    ),
  tokenMissing: (entry: string) =>
    refusal(
      'token-missing',
      `The trust entry "${entry}" wants a GitHub token beside the signature, and the command has none.`,
      'Give the job "permissions: id-token: write", and leave the input "oidc" at auto.',
    ),
  tokenInvalid: (why: string) =>
    refusal(
      'token-invalid',
      `The GitHub token does not hold: ${why}.`,
      'Let the action ask for the token itself, with the agent’s right name; see oidc in agent.yaml for the issuer.',
    ),
  tokenExpired: (why: string) =>
    refusal(
      'token-expired',
      `The GitHub token is too old: ${why}.`,
      'Run the job again; if it happens again, look at the clock of this host.',
    ),
  tokenReplayed: () =>
    refusal(
      'token-replayed',
      'The GitHub token has been used already.',
      'Run the job again: each command has a token of its own.',
    ),
  tokenKeysUnreachable: (issuer: string, why: string) =>
    refusal(
      'token-keys-unreachable',
      `The keys of ${issuer} can't be had: ${why}.`,
      'Let the host reach the issuer, or name a file of its keys: oidc.jwks_file in agent.yaml.',
    ),
  tokenNotAllowed: (claim: string, is: string) =>
    refusal(
      'token-not-allowed',
      `No trust entry takes a GitHub token whose ${claim} is ${is}.`,
      'Correct "github" in the trust entry of agent.yaml, or run the workflow that it names.',
    ),
  tokenMismatch: (claim: string) =>
    refusal(
      'token-mismatch',
      `The GitHub token's ${claim} is not what the command says.`,
      'The command is not from the job that the token was made for.',
    ),
  tailnetUnreachable: (socket: string, why: string) =>
    refusal(
      'tailnet-unreachable',
      `Who you are can't be asked of Tailscale at ${socket}: ${why}.`,
      'Start tailscaled on the host, or correct tailscale.socket in agent.yaml.',
    ),
  peerUnknown: (address: string) =>
    refusal(
      'peer-unknown',
      `The address ${address} is no node of this tailnet.`,
      'Connect over Tailscale, straight to the agent: behind a proxy nobody is who they are.',
    ),
  peerNotAllowed: (node: string, who: string) =>
    refusal(
      'peer-not-allowed',
      `The trust entry does not take the node ${node} (${who}).`,
      'Correct "tailscale" of the entry in agent.yaml, or the tags and grants of the tailnet.',
    ),
  githubUnreachable: (why: string) =>
    refusal(
      'github-unconfirmed',
      `GitHub can't be asked whether this is so: ${why}.`,
      'Let the host reach github.api_url, and look at the token of github.token_file: it must be able to read the repository.',
    ),
  notConfirmed: (what: string) =>
    refusal(
      'not-confirmed',
      `GitHub does not confirm the command: ${what}.`,
      'If you did not send it, somebody else has the signing key: take it out of agent.yaml and send SIGHUP.',
    ),
  signatureInvalid: () =>
    refusal(
      'signature-invalid',
      'No trusted key signed this command.',
      'Put the public half of signing-key under trust in agent.yaml, and send SIGHUP to the agent.',
    ),
  challengeStale: () =>
    refusal(
      'challenge-stale',
      'The command answers a challenge that is too old or was not this connection’s.',
      'Run it again; the action answers a fresh challenge each time.',
    ),
  challengeReplayed: () =>
    refusal(
      'challenge-replayed',
      'This challenge has been answered already.',
      'Run it again; a command is good once. If you did not send it twice, somebody replays your traffic.',
    ),
  commandMalformed: (why: string) =>
    refusal(
      'command-malformed',
      `The signed command can't be read: ${why}`,
      'Use an action of the same major version as the agent.',
    ),
  audienceMismatch: (meant: string, agent: string) =>
    refusal(
      'audience-mismatch',
      `The command is meant for the agent "${meant}"; this one is "${agent}".`,
      'Correct the input "agent" in the workflow, or "agent" in agent.yaml.',
    ),
  repositoryNotAllowed: (repository: string, keyId: string) =>
    refusal(
      'repository-not-allowed',
      `The key ${keyId} is not trusted for the repository ${repository}.`,
      'Correct "repository" of that entry under trust in agent.yaml, or use that repository’s key.',
    ),
  actionNotAllowed: (action: string, stack: string) =>
    refusal(
      'action-not-allowed',
      `This host does not allow "${action}" on ${stack} with this key.`,
      'Add the action to an allow rule of that entry under trust in agent.yaml.',
    ),
  stackNotAllowed: (stack: string) =>
    refusal(
      'stack-not-allowed',
      `This host does not allow this key to touch ${stack}.`,
      'Add the stack to an allow rule of that entry under trust in agent.yaml.',
    ),
  denied: (rule: string) =>
    refusal(
      'denied',
      `The rule "${rule}" of this host denies it.`,
      'Change the intent, or that rule under deny of the entry in agent.yaml.',
    ),
  guestNotAllowed: (guest: string) =>
    refusal(
      'guest-not-allowed',
      `This host does not allow this key to touch the guest ${guest}.`,
      'Add its number to "guests" of an allow rule in agent.yaml.',
    ),
  kindNotAllowed: (kind: string) =>
    refusal(
      'kind-not-allowed',
      `This host does not allow this key backups, restores or drills of the kind ${kind}.`,
      'Add it to "kinds" of an allow rule in agent.yaml.',
    ),
  placeNotAllowed: (place: string) =>
    refusal(
      'place-not-allowed',
      `This host does not allow this key backups at ${place}.`,
      'Add the place to "destinations" of an allow rule in agent.yaml.',
    ),
  outsideWindow: (windows: string[]) =>
    refusal(
      'outside-window',
      `This host allows that only at certain times: ${windows.join('; ')}.`,
      'Run the job again then, or change "windows" of the rule in agent.yaml.',
    ),
  planDigestMissing: () =>
    refusal(
      'plan-digest-missing',
      'This host wants the digest of a plan that somebody has looked at.',
      'Make a plan (mode: plan), and give its output plan-digest to the deployment as the input plan-digest.',
    ),
  capabilityNotAllowed: (action: string, stack: string) =>
    refusal(
      'capability-not-allowed',
      `The tailnet's grants don't let this node "${action}" on ${stack}.`,
      'Widen the capability in the tailnet’s policy file. It can only narrow what agent.yaml allows.',
    ),
  runRateReached: (entry: string, runs: number, per: string) =>
    refusal(
      'run-rate-reached',
      `The entry "${entry}" has had its ${runs} runs of the last ${per}.`,
      'Wait, or raise "rate" of that entry in agent.yaml.',
    ),
  approvalMissing: (event: string) =>
    refusal(
      'approval-missing',
      `A command from the event "${event}" needs a merged pull request.`,
      'Merge a labelled pull request, or add the event to without_approval of the allow rule in agent.yaml.',
    ),
  stackUnknown: (stack: string, folder: string) =>
    refusal(
      'stack-unknown',
      `There is no stack "${stack}": ${folder} is not a folder of this host.`,
      'Make the folder on the host, or correct the stack’s name. (A rollout with source_dir needs the folder too.)',
    ),
  pathOutside: (path: string, root: string) =>
    refusal(
      'path-outside',
      `${path} does not stay under ${root} once links are resolved.`,
      'Correct the path in the intent, or replace the link on the host.',
    ),
  fileNotAllowed: (path: string, why: string) =>
    refusal(
      'file-not-allowed',
      `The shipped file ${JSON.stringify(path)} is not taken: ${why}.`,
      'Correct the files under source_dir.',
    ),
  verifyRequired: (stack: string) =>
    refusal(
      'verify-required',
      `This host wants changes of ${stack} to prove themselves.`,
      'Add "verify" to the intent: an address that must answer, or how long all must stay well.',
    ),
  verifyAddressNotAllowed: (host: string) =>
    refusal(
      'verify-address-not-allowed',
      `This host’s policy does not let "verify" ask ${host}.`,
      'Ask loopback or a service of the stack, or add the address to verify.allow in agent.yaml.',
    ),
  idReused: (id: string) =>
    refusal(
      'id-reused',
      `A command with the id ${id} but other content has been seen before.`,
      'Run it again; the action makes a fresh id each time.',
    ),
  runUnknown: (run: string) =>
    refusal(
      'run-unknown',
      `This agent knows no run ${run}.`,
      'Check the run’s id, and that this is the agent that carried it out.',
    ),
  undoNotPossible: (run: string, why: string) =>
    refusal(
      'undo-not-possible',
      `The run ${run} can't be undone: ${why}.`,
      'Look at the run ("chatops runs ID"), and bring its stacks back by "action: rollback".',
    ),
  graphInvalid: (why: string) =>
    refusal(
      'graph-invalid',
      `The documents can't be put in an order: ${why}.`,
      'Check the file (mode: validate), and use an action of the same version as the agent. Nothing was started.',
    ),
  notYourRun: (run: string) =>
    refusal(
      'not-your-run',
      `The run ${run} was started under another entry of trust.`,
      'Use a key of the entry that started it.',
    ),
  questionNotAllowed: (entry: string, about: string) =>
    refusal(
      'question-not-allowed',
      `The entry "${entry}" may not ask this agent about: ${about}.`,
      `Write "may_ask: [${about}]" into that entry of agent.yaml, or ask on the host itself.`,
    ),
  entryUnknown: (name: string, names: readonly string[]) =>
    refusal(
      'entry-unknown',
      `There is no trust entry "${name.slice(0, 128)}" in agent.yaml. There are: ${names.join(', ')}.`,
      'Name one of those.',
    ),
  runEnded: (run: string, outcome: string) =>
    refusal('run-ended', `The run ${run} has ended already: ${outcome}.`, 'There is nothing left to cancel.'),
  stateUnwritable: (why: string) =>
    refusal(
      'state-unwritable',
      `The agent can't write its state: ${why}.`,
      'Make room in state_dir and let the agent’s user write there.',
    ),
  hookUnknown: (name: string) =>
    refusal(
      'hook-unknown',
      `There is no hook "${name.slice(0, 100)}".`,
      'Name it under hooks in agent.yaml, or correct the address.',
    ),
  hookUnauthorized: (name: string) =>
    refusal(
      'hook-unauthorized',
      `The delivery to the hook "${name}" does not prove who it is from.`,
      'Give the sender the secret of that hook in agent.yaml: as its HMAC secret, as a bearer token, or as the end of the address.',
    ),
  hookMalformed: (name: string, why: string) =>
    refusal(
      'hook-malformed',
      `The delivery to the hook "${name}" can't be used: ${why}.`,
      'Send JSON, and look at the hook and its intent on the host.',
    ),
  hookParam: (name: string, param: string, from: string) =>
    refusal(
      'hook-param',
      `The hook "${name}" takes the parameter "${param}" from ${from}, and what is there does not fit its pattern.`,
      'Correct "params" of the hook in agent.yaml, or what the sender says.',
    ),
  hookCooldown: (name: string, seconds: number) =>
    refusal(
      'hook-cooldown',
      `The hook "${name}" began a run a moment ago; the next one is possible in ${seconds} s.`,
      'Wait, or shorten "cooldown" of the hook in agent.yaml.',
    ),
  hookLimit: (name: string, limit: number) =>
    refusal(
      'hook-limit',
      `The hook "${name}" has begun its ${limit} runs of this hour.`,
      'See what flaps, or raise "max_per_hour" of the hook in agent.yaml.',
    ),
  noSelftest: () => refusal('no-selftest', 'No selftest is under way.', 'Begin one: chatops selftest --attack.'),
  shuttingDown: () =>
    refusal(
      'shutting-down',
      'The agent is being stopped and takes no new commands.',
      'Run it again when the agent is back.',
    ),
} satisfies Record<string, (...args: never[]) => Refusal>;
