/** One problem of a file, with its position and remedy. Lines and columns count from 1. */
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
  /** 0 for the file as a whole. */
  document: number;
  line: number;
  column: number;
  message: string;
  /** The remedy. */
  instead: string;
}

/** One line for people and editors: `file:line:column: document 2: message remedy`. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, document, message, instead } = problem;
  return `${file}:${line}:${column}: ${document > 0 ? `document ${document}: ` : ''}${message} ${instead}`;
}

/** Thrown if intent files are not valid. Holds every problem, not only the first. */
export class InvalidIntents extends Error {
  override name = 'InvalidIntents';
  readonly code = 'intent-invalid';
  readonly problems: Problem[];

  constructor(problems: Problem[]) {
    super(problems.map(formatProblem).join('\n'));
    this.problems = problems;
  }
}
