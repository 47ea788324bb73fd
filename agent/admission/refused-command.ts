import { stackOf } from '../../intents/intent.ts';
import type { Command } from '../../protocol/command.ts';
import type { AuthenticatedSender } from './authenticate.ts';

/** The facts about a refused command, for the audit log and notices. A fact that could not be read is absent. */
export interface RefusedCommand {
  address: string;
  keyId?: string;
  trust?: string;
  run?: string;
  repository?: string;
  intents?: { intent: string; action: string; stack: string }[];
}

/** Returns the facts about an authenticated sender. */
export function senderFacts({ id, entry }: AuthenticatedSender): Pick<RefusedCommand, 'keyId' | 'trust'> {
  return { keyId: id, trust: entry.name };
}

/** Returns the facts about the command of an authenticated sender. */
export function commandFacts(command: Command): Pick<RefusedCommand, 'run' | 'repository' | 'intents'> {
  const intents = 'intents' in command ? command.intents : [];
  return {
    run: command.id,
    repository: command.origin.repository,
    intents: intents.map(({ name, intent }) => ({ intent: name, action: intent.action, stack: stackOf(intent) })),
  };
}
