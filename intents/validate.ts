import { graphLines } from './graph.ts';
import { describeIntent } from './intent.ts';
import { checkIntents, type IntentFile } from './load.ts';
import { formatProblem, type Problem } from './problem.ts';

/** A valid document; `what` is its one-line description: `rollout on stack-media`. */
export interface ValidDocument {
  file: string;
  document: number;
  what: string;
}

/** The lines that `mode: validate` and `chatops validate` print, and every problem and valid document. */
export function validateFiles(files: IntentFile[]): {
  lines: string[];
  problems: Problem[];
  documents: ValidDocument[];
} {
  const lines: string[] = [];
  const valid: ValidDocument[] = [];
  const all: Problem[] = [];
  for (const { file, intents, problems } of checkIntents(files)) {
    for (const { document, documents, intent } of intents) {
      const what = describeIntent(intent);
      lines.push(`✓ ${file} (doc ${document}/${documents}): ${what}`);
      valid.push({ file, document, what });
    }
    // The order of a file's documents is known only if the file is valid.
    if (problems.length === 0) lines.push(...graphLines(intents).map(line => `    ${line}`));
    for (const problem of problems) lines.push(`✗ ${formatProblem(problem)}`);
    all.push(...problems);
  }
  return { lines, problems: all, documents: valid };
}
