import { type Refusal, Refused } from '../protocol/refusal.ts';

function createRefused(code: string, message: string, remedy: string): Refused {
  const refusal: Refusal = { code, message, remedy };
  return new Refused(refusal);
}

/** Every way in which a conversation with an agent ends without a run, or without its proved receipt. */
export const clientRefusals = {
  agentUnreachable: (url: string, diagnosis: string) =>
    createRefused(
      'agent-unreachable',
      `The agent at ${url} can't be reached.\n${diagnosis}`,
      'Follow the diagnosis from its first ✗.',
    ),
  agentSilent: (url: string) =>
    createRefused(
      'agent-silent',
      `What answers at ${url} did not say hello as an agent does.`,
      'Check that the input "agent" names the agent’s address and port.',
    ),
  agentKeyMismatch: (url: string, pinned: string, said: string) =>
    createRefused(
      'agent-key-mismatch',
      `The agent at ${url} has another key (${said}) than the pinned one (${pinned}). Nothing was sent to it.`,
      'If the agent was set up anew, put the key that it prints at its start into "agent-key". Otherwise somebody else answers there.',
    ),
  protocolUnsupported: (url: string, protocol: number) =>
    createRefused(
      'protocol-unsupported',
      `The agent at ${url} speaks version ${protocol} of the protocol.`,
      'Use an action and an agent of the same major version.',
    ),
  timedOut: (run: string | undefined, minutes: number) =>
    createRefused(
      'timeout',
      `There was no end within ${minutes} minutes.${run ? ` The run ${run} goes on at the host.` : ''}`,
      'Give the input "timeout" more time, or look at the host.',
    ),
  receiptMismatch: (why: string) =>
    createRefused(
      'receipt-mismatch',
      `The agent's receipt does not prove what was shown: ${why}.`,
      'Don’t trust this log. Look at the host and at the agent’s audit log.',
    ),
  answerUnproved: (why: string) =>
    createRefused(
      'answer-unproved',
      `The agent's answer is not proved: ${why}.`,
      'Don’t trust it. Use a command line and an agent of the same version, and look at what answers there.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;
