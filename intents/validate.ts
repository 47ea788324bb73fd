import { describeIntent } from './intent.ts';
import { checkIntents, type IntentFile } from './load.ts';
import { formatProblem, type Problem } from './problem.ts';

/** The list that `mode: validate` and `chatops validate` print, and every problem found. */
export function validateFiles(files: IntentFile[]): { lines: string[]; problems: Problem[] } {
  const lines: string[] = [];
  const all: Problem[] = [];
  for (const { file, intents, problems } of checkIntents(files)) {
    for (const { document, documents, intent } of intents) {
      lines.push(`✓ ${file} (doc ${document}/${documents}): ${describeIntent(intent)}`);
    }
    for (const problem of problems) lines.push(`✗ ${formatProblem(problem)}`);
    all.push(...problems);
  }
  return { lines, problems: all };
}
