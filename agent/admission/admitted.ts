import type { Deployment, IntentDocument } from '../../protocol/command.ts';
import type { Executor } from '../executors/executor.ts';

declare const brand: unique symbol;

/** Stands in place of a trust entry and of an address for commands that come over the agent's own socket. */
export const LOCAL = 'local';

/** The sender of a command: the trust entry of agent.yaml and the key that signed. */
export interface CommandSender {
  trust: string;
  keyId: string;
  address: string;
  /** The allow rules that admitted each document; empty for the agent's own socket, and after a restart. */
  rules: string[];
}

/** A command that passed admission. Only `admit` and `readmit` make one. */
export interface AdmittedCommand {
  readonly [brand]: true;
  command: Deployment;
  sender: CommandSender;
  /** In order; `executor.supports(document.intent)` holds. */
  documents: { document: IntentDocument; executor: Executor }[];
}

/** Brands a command as admitted. The cast is the only one: no object can have the brand, so that no other code makes one by mistake. */
export function markAdmitted(checked: Omit<AdmittedCommand, typeof brand>): AdmittedCommand {
  return checked as unknown as AdmittedCommand;
}
