import { type Refusal, Refused } from '../protocol/refusal.ts';

function refused(code: string, message: string, remedy: string): Refused {
  const refusal: Refusal = { code, message, remedy };
  return new Refused(refusal);
}

const short = (sha: string) => sha.slice(0, 8);

/** Every way in which the action ends before an agent has a run, in one voice: what happened, and what a person does next. */
export const refusals = {
  idTokenUnavailable: (why: string) =>
    refused(
      'id-token-unavailable',
      `GitHub gave no token for the command: ${why.slice(0, 300)}`,
      'Give the job "permissions: id-token: write", or say oidc: false where the agent wants a signing key only.',
    ),
  inputInvalid: (name: string, why: string, write: string) =>
    refused('input-invalid', `The input "${name}" can't be used: ${why}.`, write),
  intentNotFound: (name: string, near: string | undefined, where: string) =>
    refused(
      'intent-not-found',
      `There is no intent "${name}" in ${where}.`,
      near ? `Did you mean "${near}"?` : 'Name a file under intents-dir, a path or a glob.',
    ),
  intentInvalid: (count: number, first: string) =>
    refused(
      'intent-invalid',
      `${count} ${count === 1 ? 'problem' : 'problems'} in the intents. ${first}`,
      'Correct the places that are annotated, and check with mode: validate.',
    ),
  intentForUnknownHost: (host: string, known: string[]) =>
    refused(
      'host-unknown',
      `An intent names the host "${host}", but no agent of that name was given.`,
      `Add a line "${host}=ws://…" to the inputs "agent" and "agent-key". Known: ${known.join(', ') || 'none'}.`,
    ),
  triggerUnsupported: (event: string) =>
    refused(
      'trigger-unsupported',
      `The event "${event}" can't deploy.`,
      'Use push, pull_request (closed), workflow_dispatch or schedule; or mode: validate.',
    ),
  pullRequestTarget: () =>
    refused(
      'trigger-pull-request-target',
      'pull_request_target runs with secrets on code that nobody has reviewed.',
      'Use the push event of the default branch.',
    ),
  forkPullRequest: () =>
    refused(
      'fork-pull-request',
      'The pull request comes from a fork.',
      'Deploy from the push to the default branch that the merge makes.',
    ),
  notMerged: (number: number) =>
    refused(
      'not-merged',
      `Pull request #${number} is not merged.`,
      'Merge it first, or use mode: plan, dry-run or validate.',
    ),
  forcedPush: () =>
    refused(
      'forced-push',
      'The push was forced: what it replaced is not known.',
      'Start the workflow by workflow_dispatch with "pull-request", or merge another pull request.',
    ),
  branchCreated: () =>
    refused(
      'branch-created',
      'The push made or deleted the branch: there is nothing to compare it with.',
      'Merge a pull request into the branch.',
    ),
  notDefaultBranch: (ref: string, branch: string) =>
    refused(
      'not-default-branch',
      `The event is about ${ref}, not about the default branch ${branch}.`,
      `Limit the workflow to "branches: [${branch}]".`,
    ),
  mergeGroup: () =>
    refused(
      'merge-group-validate-only',
      'A merge queue’s trial is not a merge yet.',
      'Use mode: validate for merge_group, and deploy on push.',
    ),
  noPullRequest: (sha: string) =>
    refused(
      'no-pull-request',
      `The commit ${short(sha)} of this push belongs to no merged pull request.`,
      'Bring changes in by pull requests. If one was just merged, run the job again in a minute.',
    ),
  pullRequestNotInHistory: (number: number, sha: string) =>
    refused(
      'pull-request-not-in-history',
      `The merge of pull request #${number} is not part of ${short(sha)}.`,
      'Start the workflow on the branch that has it.',
    ),
  githubUnreadable: (what: string, why: string, remedy?: string) =>
    refused(
      'github-unreadable',
      `Could not read ${what} from GitHub: ${why}.`,
      remedy ??
        'Give the job "permissions: contents: read, pull-requests: read", check the input "github-token", and run the job again.',
    ),
  commitNotCheckedOut: (sha: string) =>
    refused(
      'commit-not-checked-out',
      `The commit ${short(sha)} is not in the workspace.`,
      `Put actions/checkout before this step, with "ref: ${sha}" where the event is not a push.`,
    ),
  sourceDirMissing: (dir: string, sha: string) =>
    refused(
      'source-dir-missing',
      `The repository has no folder "${dir}" at ${short(sha)}.`,
      'Correct source_dir in the intent.',
    ),
  fileNotShippable: (path: string, why: string) =>
    refused(
      'file-not-allowed',
      `The file ${JSON.stringify(path)} can't be shipped: ${why}.`,
      'Correct the files under source_dir.',
    ),
  filesTooLarge: (dir: string, limit: string) =>
    refused(
      'files-too-large',
      `The files under "${dir}" are more than ${limit}.`,
      'Ship less: large files belong into an image or a volume.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;
