import type { Origin } from '../protocol/command.ts';
import type { Mode } from './inputs.ts';
import { actionRefusals } from './refusals.ts';

/** The event that started the workflow, as far as an approval depends on it. `sha` is the commit of the intents and files. */
export type Trigger = { sha: string; origin: Origin } & (
  | { kind: 'push'; before: string; branch: string }
  | { kind: 'merged-pull-request'; number: number; branch: string }
  | { kind: 'open-pull-request'; number: number; branch: string }
  | { kind: 'dispatch'; branch: string }
);

type Env = Record<string, string | undefined>;
type Json = Record<string, unknown>;

const ZERO = /^0+$/;

/**
 * Reads the event from the variables GITHUB_… and the payload of GITHUB_EVENT_PATH. Throws `Refused` with a code of its own
 * for each event that can't approve anything.
 */
export function readTrigger(env: Env, payload: unknown, mode: Exclude<Mode, 'validate'>): Trigger {
  const event = env.GITHUB_EVENT_NAME ?? '';
  const body = object(payload);
  const ref = env.GITHUB_REF ?? '';
  const branch = text(object(body.repository).default_branch) || defaultBranchOf(event, ref);
  const origin = (sha: string): Origin => ({
    repository: env.GITHUB_REPOSITORY ?? '',
    repository_id: env.GITHUB_REPOSITORY_ID ?? String(object(body.repository).id ?? '0'),
    ref,
    sha,
    event,
    workflow_ref: env.GITHUB_WORKFLOW_REF ?? '',
    run_id: env.GITHUB_RUN_ID ?? '',
    run_attempt: env.GITHUB_RUN_ATTEMPT ?? '',
    actor: env.GITHUB_ACTOR ?? '',
    url: `${env.GITHUB_SERVER_URL ?? ''}/${env.GITHUB_REPOSITORY ?? ''}/actions/runs/${env.GITHUB_RUN_ID ?? ''}`,
  });
  const at = (sha: string) => ({ sha, origin: origin(sha) });
  switch (event) {
    case 'push': {
      const before = text(body.before);
      const after = text(body.after);
      if (body.forced === true) throw actionRefusals.forcedPush();
      if (body.created === true || body.deleted === true || ZERO.test(before) || ZERO.test(after))
        throw actionRefusals.branchCreated();
      if (text(body.ref) !== `refs/heads/${branch}`) throw actionRefusals.notDefaultBranch(text(body.ref), branch);
      return { kind: 'push', before, branch, ...at(after) };
    }
    case 'pull_request':
      return readPullRequest(body, branch, mode, env, at);
    case 'workflow_dispatch':
    case 'schedule':
      if (mode === 'run' && ref !== `refs/heads/${branch}`) throw actionRefusals.notDefaultBranch(ref, branch);
      return { kind: 'dispatch', branch, ...at(env.GITHUB_SHA ?? '') };
    case 'pull_request_target':
      throw actionRefusals.pullRequestTarget();
    case 'merge_group':
      throw actionRefusals.mergeGroup();
    default:
      throw actionRefusals.triggerUnsupported(event);
  }
}

/** Returns the default branch for a payload that does not name it. GitHub runs schedules on the default branch only. */
function defaultBranchOf(event: string, ref: string): string {
  return event === 'schedule' ? ref.replace(/^refs\/heads\//, '') : 'main';
}

function readPullRequest(
  body: Json,
  branch: string,
  mode: Exclude<Mode, 'validate'>,
  env: Env,
  at: (sha: string) => { sha: string; origin: Origin },
): Trigger {
  const pull = object(body.pull_request);
  const number = Number(pull.number);
  const head = object(object(pull.head).repo);
  const base = object(object(pull.base).repo);
  // A deleted head repository was a fork.
  if (head.id === undefined || head.id !== base.id) throw actionRefusals.forkPullRequest();
  if (pull.merged === true && body.action === 'closed') {
    const into = text(object(pull.base).ref);
    if (into !== branch) throw actionRefusals.notDefaultBranch(`refs/heads/${into}`, branch);
    return { kind: 'merged-pull-request', number, branch, ...at(text(pull.merge_commit_sha)) };
  }
  if (mode === 'run') throw actionRefusals.notMerged(number);
  return { kind: 'open-pull-request', number, branch, ...at(env.GITHUB_SHA ?? '') };
}

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
