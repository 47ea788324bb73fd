/** One thing that is wrong with a file, where, and what to write instead. Lines and columns count from 1. */
export interface Problem {
  code:
    | 'yaml-syntax'
    | 'too-large'
    | 'too-many-documents'
    | 'too-many-aliases'
    | 'forbidden-key'
    | 'duplicate-key'
    | 'not-a-mapping'
    | 'empty'
    | 'unknown-key'
    | 'missing-key'
    | 'wrong-value'
    | 'unknown-action'
    | 'duplicate-id'
    | 'unknown-id'
    | 'cycle'
    | 'unreachable'
    | 'unknown-param'
    | 'missing-param'
    | 'wrong-param'
    | 'wrong-filter';
  file: string;
  /** 0 where the file as a whole is meant. */
  document: number;
  line: number;
  column: number;
  message: string;
  /** What to write instead. */
  instead: string;
}

/** One line for people and editors: `file:line:column: message. Instead: …`. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, document, message, instead } = problem;
  return `${file}:${line}:${column}: ${document > 0 ? `document ${document}: ` : ''}${message} ${instead}`;
}

/** The files can't be used as they are. Holds every problem, not only the first. */
export class InvalidIntents extends Error {
  override name = 'InvalidIntents';
  readonly code = 'intent-invalid';
  readonly problems: Problem[];

  constructor(problems: Problem[]) {
    super(problems.map(formatProblem).join('\n'));
    this.problems = problems;
  }
}
