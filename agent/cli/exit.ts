/** Exit codes of `chatops`. `closedPipe` is that of a program that SIGPIPE ended: 128 + 13. */
export const EXIT = { done: 0, failed: 1, usage: 2, closedPipe: 141 } as const;

/**
 * Ends the process quietly when the reader of its output is gone (`chatops runs | head -1`). Node ignores SIGPIPE and
 * reports EPIPE instead, which would be an unhandled error.
 */
export function exitOnClosedPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.closedPipe);
    printError(`chatops: The output could not be written: ${error.message}.`);
    process.exit(EXIT.failed);
  });
}

/** Lets the process outlive the reader of its output. */
export function ignoreOutputErrors(): void {
  for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);
}

let isGuarded = false;

/** Prints a line on standard error. Its stream is opened only here: most commands never need it. */
export function printError(line: string): void {
  if (!isGuarded) process.stderr.on('error', () => process.exit(EXIT.closedPipe));
  isGuarded = true;
  process.stderr.write(`${line}\n`);
}
