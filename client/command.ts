import type { LoadedIntent } from '../intents/load.ts';
import type { ParamValue } from '../intents/render.ts';
import type {
  Approval,
  AskCommand,
  CancelCommand,
  Coverage,
  Deployment,
  FinishedDocument,
  FollowCommand,
  ListCommand,
  Origin,
  ShippedFile,
} from '../protocol/command.ts';
import type { Question } from '../protocol/question.ts';

/** The content of a command to one agent, without the fields that each sending creates again. */
export interface CommandTask {
  type: 'run' | 'plan';
  id: string;
  origin: Origin;
  approval: Approval | null;
  covers?: Coverage[] | undefined;
  allowOlder?: boolean;
  /** The path of the hosts file in the repository. */
  hostsFile?: string | undefined;
  intents: LoadedIntent[];
  files: ShippedFile[];
  params: Record<string, ParamValue>;
  /** The time that "now" means in the intents, if they use it. */
  renderedAt?: string | undefined;
  dryRun: boolean;
  planDigest?: string | undefined;
  /** For a graph that several commands share: the indexes of `intents`, and the results of documents of other commands. */
  indexes?: number[];
  given?: FinishedDocument[];
  /** Undoes these documents (from 1) of that run in place of running the intents. */
  undo?: { run: string; documents: number[] };
}

/** The values of an agent's hello to which a command is bound. */
export interface Binding {
  agent: string;
  challenge: string;
  now: Date;
}

export function buildCommand(task: CommandTask, { agent, challenge, now }: Binding): Deployment {
  return {
    type: task.type,
    id: task.id,
    agent,
    challenge,
    issued_at: now.toISOString(),
    origin: task.origin,
    approval: task.approval,
    ...(task.covers === undefined ? {} : { covers: task.covers }),
    ...(task.allowOlder ? { allow_older: true as const } : {}),
    ...(task.hostsFile === undefined ? {} : { hosts_file: task.hostsFile }),
    intents: task.intents.map(({ name, document, documents, intent }, index) => ({
      ...{ name, document, documents, intent },
      ...(task.indexes === undefined ? {} : { place: task.indexes[index] }),
    })),
    ...(task.given === undefined ? {} : { given: task.given }),
    ...(task.undo === undefined ? {} : { undo: task.undo }),
    files: task.files,
    params: task.params,
    ...(task.renderedAt === undefined ? {} : { rendered_at: task.renderedAt }),
    dry_run: task.dryRun,
    ...(task.planDigest === undefined ? {} : { plan_digest: task.planDigest }),
  };
}

/** Asks for the events of a run after number `after`. `id` identifies the request, `run` the run. */
export function buildFollow(
  run: string,
  after: number,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): FollowCommand {
  return { type: 'follow', id, agent, challenge, issued_at: now.toISOString(), origin, run, after };
}

/** Asks the agent to cancel a run. */
export function buildCancel(
  run: string,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): CancelCommand {
  return { type: 'cancel', id, agent, challenge, issued_at: now.toISOString(), origin, run };
}

/** Asks for the sender's runs, newest first. */
export function buildList(
  limit: number,
  before: string | undefined,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): ListCommand {
  const page = before === undefined ? { limit } : { limit, before };
  return { type: 'runs', id, agent, challenge, issued_at: now.toISOString(), origin, ...page };
}

/** Asks about the host, or about a run of the sender's own trust entry. */
export function buildAsk(
  question: Question,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): AskCommand {
  return { type: 'ask', id, agent, challenge, issued_at: now.toISOString(), origin, question };
}
