import { type Refusal, Refused } from '../protocol/refusal.ts';

function refused(code: string, message: string, remedy: string): Refused {
  const refusal: Refusal = { code, message, remedy };
  return new Refused(refusal);
}

const short = (sha: string) => sha.slice(0, 8);

/** All refusals of the action: the cause as a sentence, and what the user does next. */
export const actionRefusals = {
  idTokenUnavailable: (why: string) =>
    refused(
      'id-token-unavailable',
      `GitHub did not issue a token for the command: ${why.slice(0, 300)}`,
      'Give the job "permissions: id-token: write", or set oidc: false if the agent accepts the signing key alone.',
    ),
  inputInvalid: (name: string, why: string, remedy: string) =>
    refused('input-invalid', `The input "${name}" is invalid: ${why}.`, remedy),
  intentNotFound: (name: string, near: string | undefined, folder: string) =>
    refused(
      'intent-not-found',
      `The intent "${name}" does not exist in ${folder}.`,
      near ? `Did you mean "${near}"?` : 'Name a file under intents-dir, a path or a glob.',
    ),
  intentInvalid: (count: number, first: string) =>
    refused(
      'intent-invalid',
      `The intents have ${count} ${count === 1 ? 'problem' : 'problems'}. ${first}`,
      'Correct the annotated lines, and check them with mode: validate.',
    ),
  /** `host` is a name, `tag:…`, or undefined if the intent names none. */
  intentForUnknownHost: (host: string | undefined, known: string[]) => {
    const names = `Known: ${known.join(', ') || 'none'}.`;
    if (host === undefined)
      return refused(
        'host-unknown',
        'An intent names no host, and the inputs do not name exactly one.',
        `Write "host: NAME" into the intent. ${names}`,
      );
    return host.startsWith('tag:')
      ? refused(
          'host-unknown',
          `An intent names "${host}", but no host of the hosts file has that tag.`,
          `Correct the intent, or give the tag to a host. ${names}`,
        )
      : refused(
          'host-unknown',
          `An intent names the host "${host}", which is not in the inputs or in the hosts file.`,
          `Add a line "${host}=ws://…" to the inputs "agent" and "agent-key". ${names}`,
        );
  },
  triggerUnsupported: (event: string) =>
    refused(
      'trigger-unsupported',
      `The event "${event}" can't start a deployment.`,
      'Use push, pull_request (closed), workflow_dispatch or schedule, or set mode: validate.',
    ),
  pullRequestTarget: () =>
    refused(
      'trigger-pull-request-target',
      'The event pull_request_target gives secrets to code that is not reviewed.',
      'Use the event push on the default branch.',
    ),
  forkPullRequest: () =>
    refused(
      'fork-pull-request',
      'The pull request comes from a fork.',
      'Deploy on the push to the default branch that the merge creates.',
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
      'The push was forced, so the commits that it replaced are not known.',
      'Start the workflow by workflow_dispatch with the input "pull-request", or merge another pull request.',
    ),
  branchCreated: () =>
    refused(
      'branch-created',
      'The push created or deleted the branch, so it has no earlier commit to compare with.',
      'Merge a pull request into the default branch.',
    ),
  notDefaultBranch: (ref: string, branch: string) =>
    refused(
      'not-default-branch',
      `The event is for ${ref}, not for the default branch ${branch}.`,
      `Limit the workflow to "branches: [${branch}]".`,
    ),
  mergeGroup: () =>
    refused(
      'merge-group-validate-only',
      'A merge queue tests a change that is not merged yet.',
      'Set mode: validate for merge_group, and deploy on push.',
    ),
  noPullRequest: (sha: string) =>
    refused(
      'no-pull-request',
      `The commit ${short(sha)} does not belong to a merged pull request.`,
      'Nothing was deployed. Revert it by a labelled pull request, then merge the change again as one. If a pull request was just merged, run the job again in a minute.',
    ),
  pullRequestNotInHistory: (number: number, sha: string) =>
    refused(
      'pull-request-not-in-history',
      `The merge of pull request #${number} is not in the history of ${short(sha)}.`,
      'Start the workflow on the branch that contains it.',
    ),
  pullRequestUnrelated: (number: number) =>
    refused(
      'pull-request-unrelated',
      `Pull request #${number} does not change what the intents depend on.`,
      'Name the pull request that last changed an intent or its files in the input "pull-request".',
    ),
  olderThanDeployed: (sha: string, last: string) =>
    refused(
      'older-than-deployed',
      `The commit ${sha} does not descend from ${last}, which the host deployed last.`,
      'Nothing was deployed. Run the newest job, or go back with a rollback.',
    ),
  historyRewritten: (sha: string, last: string) =>
    refused(
      'history-rewritten',
      `The commit ${last}, which the host deployed last, is not in the history of ${sha}: a forced push replaced it.`,
      'Nothing was deployed. Run one job with the input "allow-older: true"; the rule of agent.yaml that allows it needs "allow_older: true".',
    ),
  firstDeploymentUnapproved: (intent: string) =>
    refused(
      'first-deployment-unapproved',
      `The host has not deployed "${intent}" yet, and no approved pull request of this event brings it.`,
      'Change the intent in a labelled pull request, or start the workflow by workflow_dispatch with the input "pull-request" for the one that did.',
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
      `Put actions/checkout before this step, with "ref: ${sha}" if the event is not a push.`,
    ),
  checkoutUnreadable: (why: string) =>
    refused(
      'checkout-unreadable',
      `The files of the commit can't be read from the workspace: ${why}.`,
      'Check the repository out without a filter and with all its objects.',
    ),
  eventUnreadable: (why: string) =>
    refused(
      'event-unreadable',
      `The payload of the event can't be read: ${why}.`,
      'Run the action on a runner of GitHub Actions, which sets GITHUB_EVENT_PATH.',
    ),
  crashed: (why: string) =>
    refused(
      'action-crashed',
      `The action ended because of an error of its own: ${why}.`,
      'Run the job again with debug logging, and report the stack that it then logs.',
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
      `The files under "${dir}" exceed ${limit}.`,
      'Ship fewer or smaller files. Put large ones into an image or a volume.',
    ),
} satisfies Record<string, (...args: never[]) => Refused>;
