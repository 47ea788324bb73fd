import type { Deployment, Document } from '../../protocol/command.ts';
import type { Executor } from '../executors/executor.ts';

declare const brand: unique symbol;

/** Who sent a command: the trust entry of agent.yaml and the key that signed. */
export interface Sender {
  trust: string;
  keyId: string;
  address: string;
  /** The allow rules by which each document was let in; empty for the host's own socket, and after a restart. */
  rules: string[];
}

/** A command that passed the guard. Only `admit` makes one. */
export interface Admitted {
  readonly [brand]: true;
  command: Deployment;
  sender: Sender;
  /** In order; `executor.takes(document.intent)` holds. */
  documents: { document: Document; executor: Executor }[];
}
