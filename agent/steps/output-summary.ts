const MAX_LINES = 3;
const MAX_LENGTH = 500;

/** Compose prints an error on the service's line, and the client prints it again: ` web Error X`, `Error response from daemon: X`. */
const ERROR_PREFIX = /^(?:(?:(?:Image|Container) )?\S+ +Error +|Error response from daemon: )/;

/** A line of compose that reports progress and no cause: ` web Pulling`. */
const PROGRESS = /^\s+(?:Image )?\S+ +(?:Pulling|Pulled|Interrupted|Skipped - .*)\s*$/;

/** Returns the last lines of a program's output for an error message, each cause once. */
export function summarizeOutput(output: string): string {
  const lines = output.split(/[\r\n]+/).filter(line => line.trim() !== '');
  const causes = lines.filter(line => !PROGRESS.test(line)).map(line => line.trim());
  // The last of several lines with one cause stays: a map keeps the place of its first.
  const byCause = new Map<string, string>();
  for (const line of causes.length > 0 ? causes : lines) {
    const cause = line.replace(ERROR_PREFIX, '');
    byCause.delete(cause);
    byCause.set(cause, withoutEcho(line));
  }
  return [...byCause.values()].slice(-MAX_LINES).join(' / ').slice(-MAX_LENGTH).trim() || 'it printed nothing';
}

/** Registries wrap an error in itself: `not found: manifest unknown: manifest unknown`. */
function withoutEcho(line: string): string {
  return line.replace(/(: [^:]+)\1+$/, '$1');
}
