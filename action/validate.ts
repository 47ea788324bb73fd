import { type IntentFile, loadIntents } from '../intents/load.ts';
import { InvalidIntents, type Problem } from '../intents/problem.ts';
import { validateFiles } from '../intents/validate.ts';
import { Refused } from '../protocol/refusal.ts';
import { requiredLabels } from './approval.ts';
import { findIntents } from './find-intents.ts';
import { workspaceTree } from './git-tree.ts';
import type { CommonInputs } from './inputs.ts';
import type { Log } from './log.ts';
import { openGitHub, readEvent } from './prepare.ts';
import { previewApproval } from './preview.ts';
import { setOutputs, writeSummary } from './result.ts';
import { summaryOfPreview } from './summary.ts';

/**
 * Checks the intents of the workspace. Logs a list, and an annotation at the file and line of each problem. On a pull request
 * it also reports if its approval would be admitted now: after the merge it is too late to correct it.
 */
export async function validate(inputs: CommonInputs, workspace: string, log: Log): Promise<void> {
  const files = await findIntents(inputs.intent, inputs.intentsDir, workspaceTree(workspace));
  const { lines, problems } = validateFiles(files);
  for (const line of lines) await log.line(line);
  await annotate(problems, log);
  setOutputs({
    status: problems.length === 0 ? 'valid' : 'invalid',
    reason: problems.length === 0 ? '' : 'intent-invalid',
    message: problems[0] ? `${problems[0].message}` : '',
    remedy: problems[0]?.instead ?? '',
    run: '',
    changed: false,
    receipts: [],
  });
  if (problems.length > 0) process.exitCode = 1;
  else await reportApproval(inputs, files, log);
}

/** Reports the approval of an open pull request. It does not change the result: a label may be set until the merge. */
async function reportApproval(inputs: CommonInputs, files: IntentFile[], log: Log): Promise<void> {
  const number = openPullRequest();
  if (number === undefined || inputs.githubToken === '') return;
  try {
    const wanted = requiredLabels(loadIntents(files, inputs.params).map(({ intent }) => intent));
    const say = (line: string) => void log.line(line);
    const github = await openGitHub(inputs, process.env.GITHUB_REPOSITORY ?? '', say);
    const preview = await previewApproval(number, wanted, github, say);
    if (!preview) return;
    for (const line of preview.lines) await log.line(line);
    for (const { code, message, remedy } of preview.refusals)
      await log.command('warning', `${message} ${remedy}`, { title: `would be refused: ${code}` });
    writeSummary(summaryOfPreview(preview));
  } catch (error) {
    // Parameters without a value, or GitHub is not readable with this token: the intents are valid all the same.
    if (!(error instanceof Refused || error instanceof InvalidIntents)) throw error;
    await log.line(`The approval of pull request #${number} could not be checked: ${error.message}`);
  }
}

/** Returns the number of the pull request that the event is about. */
function openPullRequest(): number | undefined {
  if (process.env.GITHUB_EVENT_NAME !== 'pull_request') return undefined;
  const { number } = readEvent() as { number?: unknown };
  return typeof number === 'number' ? number : undefined;
}

export async function annotate(problems: Problem[], log: Log): Promise<void> {
  for (const { file, line, column, code, message, instead } of problems) {
    await log.command('error', `${message} ${instead}`, { file, line, col: column, title: code });
  }
}
