import { type Refusal, Refused } from '../protocol/refusal.ts';

function createRefused(code: string, message: string, remedy: string): Refused {
  const refusal: Refusal = { code, message, remedy };
  return new Refused(refusal);
}

/** The refusals that end a conversation with an agent without a run, or without its checked receipt. */
export const clientRefusals = {
  agentUnreachable: (url: string, diagnosis: string) =>
    createRefused(
      'agent-unreachable',
      `The agent at ${url} is not reachable.\n${diagnosis}`,
      'Follow the diagnosis from its first ✗.',
    ),
  agentSilent: (url: string) =>
    createRefused(
      'agent-silent',
      `The program at ${url} is not an agent: it did not send the hello of an agent.`,
      'Check that the input "agent" has the address and port of the agent.',
    ),
  agentKeyMismatch: (url: string, pinned: string, claimed: string) =>
    createRefused(
      'agent-key-mismatch',
      `The agent at ${url} does not have the pinned key. Pinned is ${pinned}, the agent presents ${claimed}. Nothing was sent to it.`,
      'If the agent was set up again, put the key that it prints at its start into "agent-key". Otherwise find out which program answers at this address.',
    ),
  protocolUnsupported: (url: string, protocol: number) =>
    createRefused(
      'protocol-unsupported',
      `The agent at ${url} is not compatible: it speaks version ${protocol} of the protocol.`,
      'Use an action and an agent of the same major version.',
    ),
  timedOut: (run: string | undefined, minutes: number) =>
    createRefused(
      'timeout',
      run
        ? `The run ${run} did not finish within ${minutes} minutes. It continues on the host.`
        : `The agent did not answer within ${minutes} minutes.`,
      'Raise the input "timeout", or look at the host.',
    ),
  receiptMismatch: (cause: string) =>
    createRefused(
      'receipt-mismatch',
      `The agent's receipt does not match the events of this log: ${cause}.`,
      'Don’t trust this log. Check the host and the audit log of the agent.',
    ),
  answerUnproved: (cause: string) =>
    createRefused(
      'answer-unproved',
      `The agent's answer is not authenticated: ${cause}.`,
      'Don’t trust it. Use a command line and an agent of the same version, and check which program answers at the address.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;
