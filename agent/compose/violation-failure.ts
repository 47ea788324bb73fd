import { isNode, LineCounter, parseDocument } from 'yaml';
import type { ComposeRules, Opening, Violation } from '../plan/compose-config.ts';
import { Failure } from '../plan/failure.ts';

const MAX_REPORTED = 5;

/** Makes the failure of a config that the host's rules do not allow. `sources`: the texts of the files that it was rendered from. */
export function violationFailure(
  violations: readonly Violation[],
  sources: ReadonlyMap<string, string>,
  { stack }: Pick<ComposeRules, 'stack'>,
): Failure {
  const reported = violations.slice(0, MAX_REPORTED).map(({ path, message }) => {
    const place = findPlace(path, sources);
    return place === undefined ? message : `${place}: ${message}`;
  });
  const more = violations.length - reported.length;
  const openings = [...new Set(violations.flatMap(({ opens }) => opens.slice(0, 1).map(formatOpening)))];
  const isClosed = violations.some(({ opens }) => opens.length === 0);
  const closed = isClosed
    ? 'No grant allows all of it: change the compose file.'
    : 'If it is intended, allow it to the stack in agent.yaml';
  const remedy = isClosed
    ? closed
    : `${closed}: compose.grants (${openings.join(', ')}). "chatops policy suggest ${stack}" prints the lines.`;
  return new Failure(
    'compose-not-allowed',
    `This host does not allow the stack’s compose config. ${reported.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    `Nothing was started. ${remedy}`,
  );
}

function formatOpening(opening: Opening): string {
  return 'grant' in opening ? opening.grant : `${opening.list}: ${opening.value}`;
}

/** Returns file and line of the path's deepest part that a source has; undefined if none has more than its first key. */
function findPlace(path: readonly string[], sources: ReadonlyMap<string, string>): string | undefined {
  const parsed = [...sources]
    .filter(([file]) => /\.ya?ml$/.test(file))
    .map(([file, text]) => {
      const lines = new LineCounter();
      return {
        file,
        lines,
        document: parseDocument(text, {
          lineCounter: lines,
          prettyErrors: false,
          logLevel: 'silent',
          uniqueKeys: false,
        }),
      };
    });
  for (let length = path.length; length > 1; length--) {
    for (const { file, lines, document } of parsed) {
      const node = document.getIn(path.slice(0, length).map(asKey), true);
      if (isNode(node) && node.range) return `${file}:${lines.linePos(node.range[0]).line}`;
    }
  }
  return undefined;
}

function asKey(part: string): string | number {
  return /^\d+$/.test(part) ? Number(part) : part;
}
