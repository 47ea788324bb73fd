import { type DocumentOutcome, decideNext, type GraphNode } from '../../intents/graph.ts';
import type { graphOfCommand } from '../../protocol/graph.ts';

/** What carries out a graph's documents, each by its place. */
export interface GraphDeps {
  /** How each has ended so far; filled in. */
  ended: (DocumentOutcome | undefined)[];
  /** An earlier agent had begun these, and they have not ended. */
  begun: ReadonlySet<number>;
  /** What each locks: two with something in common never go on at the same time. */
  subjects: readonly (readonly string[])[];
  isCancelled(): boolean;
  execute(place: number): Promise<DocumentOutcome>;
  /** Brings back what a document changed that had succeeded. */
  undo(place: number): Promise<DocumentOutcome>;
}

/**
 * Begins each document when its turn comes, side by side as far as the graph lets them, until nothing more can begin.
 * After a failure of one that says "on_failure: rollback" what had succeeded in its file is brought back, the last
 * first, before what asks for failures begins. Throws what `carry` and `undo` throw.
 */
export async function executeGraph(nodes: readonly GraphNode[], how: GraphDeps): Promise<void> {
  const { ended, subjects } = how;
  const going = new Map<number, Promise<void>>();
  const undone = new Set<number>();
  const begin = (place: number) => {
    const work = how.execute(place).then(outcome => {
      ended[place] = outcome;
      going.delete(place);
    });
    // Another one may throw first: nobody waits for this one then.
    work.catch(() => undefined);
    going.set(place, work);
  };
  const hasRoom = (place: number) =>
    going.size < (nodes[place] as GraphNode).maxParallel &&
    ![...going.keys()].some(other => subjects[other]?.some(one => subjects[place]?.includes(one)));

  for (const place of how.begun) begin(place);
  for (;;) {
    const back = listDocumentsToUndo(nodes, ended).filter(place => !undone.has(place));
    if (going.size === 0) {
      for (const place of back) {
        undone.add(place);
        ended[place] = await how.undo(place);
      }
    }
    // One that is passed over can be what others wait for: from the beginning, until nothing moves.
    for (let moved = !how.isCancelled(); moved; ) {
      moved = false;
      for (const place of nodes.keys()) {
        if (ended[place] !== undefined || going.has(place)) continue;
        const next = decideNext(nodes, place, ended);
        if (next.do === 'skip') {
          ended[place] = 'skipped';
          moved = true;
        } else if (next.do === 'begin' && hasRoom(place) && (going.size === 0 || back.length === 0)) begin(place);
      }
    }
    if (going.size === 0) return;
    await Promise.race(going.values());
  }
}

/** What is to be brought back, the last first. What begins after failures, or always, is no part of it. */
export function listDocumentsToUndo(
  nodes: readonly GraphNode[],
  ended: readonly (DocumentOutcome | undefined)[],
): number[] {
  const files = new Set(
    nodes.flatMap(({ onFailure, file }, place) => {
      const outcome = ended[place];
      const hasFailed = outcome === 'failed' || outcome === 'rolled-back' || outcome === 'cancelled';
      return onFailure === 'rollback' && hasFailed ? [file] : [];
    }),
  );
  return sortTopologically(nodes)
    .filter(place => {
      const { file, when } = nodes[place] as GraphNode;
      return files.has(file) && ended[place] === 'succeeded' && (when === undefined || when === 'succeeded');
    })
    .reverse();
}

/** Places so that each comes after everything it waits for. */
export function sortTopologically(nodes: readonly GraphNode[]): number[] {
  const order = new Set<number>();
  const seen = new Set<number>();
  const visit = (place: number) => {
    if (seen.has(place)) return;
    seen.add(place);
    for (const before of nodes[place]?.after ?? []) visit(before);
    order.add(place);
  };
  for (const place of nodes.keys()) visit(place);
  return [...order];
}

/** One after another, until one fails. */
export function createSequence(length: number): ReturnType<typeof graphOfCommand> {
  const mine = Array.from({ length }, (_, place) => place);
  const nodes = mine.map(place => ({
    after: mine.slice(0, place),
    named: false,
    when: undefined,
    onFailure: 'stop' as const,
    file: 0,
    maxParallel: 1,
  }));
  return { nodes, mine, ended: mine.map(() => undefined) };
}
