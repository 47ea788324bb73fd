import { stackOf } from '../../intents/intent.ts';
import type { Command } from '../../protocol/command.ts';
import type { AuthenticatedSender } from './authenticate.ts';

/** The facts about a refused command, for the audit log, metrics and notices. A fact that could not be read is absent. */
export interface RefusedCommand {
  address: string;
  keyId?: string;
  trust?: string;
  run?: string;
  repository?: string;
  intents?: { intent: string; action: string; stack: string }[];
}

/** Returns the facts about an authenticated command. */
export function commandFacts(command: Command, sender: AuthenticatedSender): Omit<RefusedCommand, 'address'> {
  const intents = 'intents' in command ? command.intents : [];
  return {
    keyId: sender.id,
    trust: sender.entry.name,
    run: command.id,
    repository: command.origin.repository,
    intents: intents.map(({ name, intent }) => ({ intent: name, action: intent.action, stack: stackOf(intent) })),
  };
}
