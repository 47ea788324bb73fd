import type { LoadedIntent } from '../intents/load.ts';
import type { ParamValue } from '../intents/render.ts';
import type { Approval, Cancel, Deployment, Follow, Origin, ShippedFile } from '../protocol/command.ts';

/** What is sent to one agent: everything of a command but what each sending makes anew. */
export interface Task {
  type: 'run' | 'plan';
  id: string;
  origin: Origin;
  approval: Approval | null;
  intents: LoadedIntent[];
  files: ShippedFile[];
  params: Record<string, ParamValue>;
  dryRun: boolean;
  planDigest?: string | undefined;
}

/** What an agent's hello binds a command to. */
export interface Binding {
  agent: string;
  challenge: string;
  now: Date;
}

export function buildCommand(task: Task, { agent, challenge, now }: Binding): Deployment {
  return {
    type: task.type,
    id: task.id,
    agent,
    challenge,
    issued_at: now.toISOString(),
    origin: task.origin,
    approval: task.approval,
    intents: task.intents.map(({ name, document, documents, intent }) => ({ name, document, documents, intent })),
    files: task.files,
    params: task.params,
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
): Follow {
  return { type: 'follow', id, agent, challenge, issued_at: now.toISOString(), origin, run, after };
}

/** Asks for the end of a run. */
export function buildCancel(run: string, id: string, origin: Origin, { agent, challenge, now }: Binding): Cancel {
  return { type: 'cancel', id, agent, challenge, issued_at: now.toISOString(), origin, run };
}
