import type { LoadedIntent } from '../intents/load.ts';
import type { ParamValue } from '../intents/render.ts';
import type {
  Approval,
  AskCommand,
  CancelCommand,
  Deployment,
  FinishedDocument,
  FollowCommand,
  ListCommand,
  Origin,
  ShippedFile,
} from '../protocol/command.ts';
import type { Question } from '../protocol/question.ts';

/** What is sent to one agent: everything of a command but what each sending makes anew. */
export interface CommandTask {
  type: 'run' | 'plan';
  id: string;
  origin: Origin;
  approval: Approval | null;
  intents: LoadedIntent[];
  files: ShippedFile[];
  params: Record<string, ParamValue>;
  /** What "now" meant in the intents, where they say it. */
  renderedAt?: string | undefined;
  dryRun: boolean;
  planDigest?: string | undefined;
  /** Of a graph of which other commands carry the rest: the places of `intents`, and how others have ended. */
  places?: number[];
  given?: FinishedDocument[];
  /** In place of carrying the intents out: undo these documents (from 1) of that run. */
  undo?: { run: string; documents: number[] };
}

/** What an agent's hello binds a command to. */
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
    intents: task.intents.map(({ name, document, documents, intent }, index) => ({
      ...{ name, document, documents, intent },
      ...(task.places === undefined ? {} : { place: task.places[index] }),
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

/** Asks for the events of a run after number `after`. `id` is of the request, `run` of what it asks about. */
export function buildFollow(
  run: string,
  after: number,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): FollowCommand {
  return { type: 'follow', id, agent, challenge, issued_at: now.toISOString(), origin, run, after };
}

/** Asks for the end of a run. */
export function buildCancel(
  run: string,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): CancelCommand {
  return { type: 'cancel', id, agent, challenge, issued_at: now.toISOString(), origin, run };
}

/** Asks for the sender's runs, the newest first. */
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

/** Asks about the host, or about a run of the sender's own entry. */
export function buildAsk(
  question: Question,
  id: string,
  origin: Origin,
  { agent, challenge, now }: Binding,
): AskCommand {
  return { type: 'ask', id, agent, challenge, issued_at: now.toISOString(), origin, question };
}
