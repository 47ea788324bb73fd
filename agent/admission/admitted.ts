import type { Deployment, IntentDocument } from '../../protocol/command.ts';
import type { Executor } from '../executors/executor.ts';

declare const brand: unique symbol;

/** Who sent a command: the trust entry of agent.yaml and the key that signed. */
export interface CommandSender {
  trust: string;
  keyId: string;
  address: string;
  /** The allow rules by which each document was let in; empty for the host's own socket, and after a restart. */
  rules: string[];
}

/** A command that passed the guard. Only `admit` makes one. */
export interface AdmittedCommand {
  readonly [brand]: true;
  command: Deployment;
  sender: CommandSender;
  /** In order; `executor.supports(document.intent)` holds. */
  documents: { document: IntentDocument; executor: Executor }[];
}
