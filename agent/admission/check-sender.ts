import type { Command } from '../../protocol/command.ts';
import type { Question } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { Config } from '../config/load.ts';
import { refusals } from '../refusals.ts';
import type { AuthenticatedSender } from './authenticate.ts';

/** Checks audience and repository of every kind of command. Throws `Refused`. */
export function checkSender(command: Command, sender: AuthenticatedSender, { agent }: Pick<Config, 'agent'>): void {
  if (command.agent !== agent) throw new Refused(refusals.audienceMismatch(command.agent, agent));
  const { repository, repository_id } = command.origin;
  const { entry, id } = sender;
  const hasName = entry.repository?.toLowerCase() === repository.toLowerCase();
  const hasNumber = entry.repository_id === undefined || entry.repository_id === repository_id;
  if (!hasName || !hasNumber) throw new Refused(refusals.repositoryNotAllowed(repository, id));
}

/**
 * Checks a question: a sender may always ask about its own runs and the last deployments of its repository, and about the
 * host what `may_ask` names. Throws `Refused`.
 */
export function checkQuestion({ about }: Question, { entry }: AuthenticatedSender): void {
  if (about !== 'run' && about !== 'deployed' && !entry.may_ask?.includes(about))
    throw new Refused(refusals.questionNotAllowed(entry.name, about));
}

/** Returns a run that this trust entry started. Throws `Refused`: `run-unknown`, `not-your-run`. */
export function requireOwnRun<R extends { trust: string }>(
  id: string,
  entry: string,
  runs: { find(id: string): R | undefined },
): R {
  const run = runs.find(id);
  if (!run) throw new Refused(refusals.runUnknown(id));
  if (run.trust !== entry) throw new Refused(refusals.notYourRun(id));
  return run;
}
