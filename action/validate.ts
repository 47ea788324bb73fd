import type { Problem } from '../intents/problem.ts';
import { validateFiles } from '../intents/validate.ts';
import { findIntents } from './find-intents.ts';
import { workspaceTree } from './git-tree.ts';
import type { CommonInputs } from './inputs.ts';
import type { Log } from './log.ts';
import { setOutputs } from './result.ts';

/** Checks the intents of the workspace. Logs a list, and an annotation at the file and line of each problem. */
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
}

export async function annotate(problems: Problem[], log: Log): Promise<void> {
  for (const { file, line, column, code, message, instead } of problems) {
    await log.command('error', `${message} ${instead}`, { file, line, col: column, title: code });
  }
}
