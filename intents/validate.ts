import { graphLines } from './graph.ts';
import { describeIntent } from './intent.ts';
import { checkIntents, type IntentFile } from './load.ts';
import { formatProblem, type Problem } from './problem.ts';

/** A document that is right: `rollout on stack-media`. */
export interface ValidDocument {
  file: string;
  document: number;
  what: string;
}

/** The list that `mode: validate` and `chatops validate` print, and every problem found. */
export function validateFiles(files: IntentFile[]): {
  lines: string[];
  problems: Problem[];
  documents: ValidDocument[];
} {
  const lines: string[] = [];
  const sound: ValidDocument[] = [];
  const all: Problem[] = [];
  for (const { file, intents, problems } of checkIntents(files)) {
    for (const { document, documents, intent } of intents) {
      const what = describeIntent(intent);
      lines.push(`✓ ${file} (doc ${document}/${documents}): ${what}`);
      sound.push({ file, document, what });
    }
    // Of what is wrong it can't be said what comes after what.
    if (problems.length === 0) lines.push(...graphLines(intents).map(line => `    ${line}`));
    for (const problem of problems) lines.push(`✗ ${formatProblem(problem)}`);
    all.push(...problems);
  }
  return { lines, problems: all, documents: sound };
}
