import { type DocumentOutcome, decideNext, type GraphNode } from '../../intents/graph.ts';
import type { graphOfCommand } from '../../protocol/graph.ts';

/** The documents of a graph. Each is named by the index of its node. */
export interface GraphDocuments {
  /** Outcomes so far. {@link executeGraph} adds to them. */
  readonly outcomes: (DocumentOutcome | undefined)[];
  /** Nodes that an earlier agent started and did not finish. */
  readonly unfinished: readonly number[];
  readonly isCancelled: boolean;
  /** Returns what a document locks: two documents with a common lock never run at the same time. */
  subjectsOf(node: number): readonly string[];
  execute(node: number): Promise<DocumentOutcome>;
  /** Undoes a document that succeeded. */
  undo(node: number): Promise<DocumentOutcome>;
}

/**
 * Starts each document when its turn comes, in parallel as far as the graph allows, until none can start any more.
 * If a document with "on_failure: rollback" fails, those of its file that succeeded are undone, the last first, before
 * documents with a condition on failures start. Throws what `execute` and `undo` throw.
 */
export async function executeGraph(nodes: readonly GraphNode[], documents: GraphDocuments): Promise<void> {
  const { outcomes } = documents;
  const running = new Map<number, Promise<void>>();
  const undone = new Set<number>();
  const start = (node: number) => {
    const work = documents.execute(node).then(outcome => {
      outcomes[node] = outcome;
      running.delete(node);
    });
    // Another document may throw first. Then nothing awaits this one.
    work.catch(() => undefined);
    running.set(node, work);
  };
  const hasLockOf = (node: number) => {
    const subjects = documents.subjectsOf(node);
    return [...running.keys()].some(other => documents.subjectsOf(other).some(subject => subjects.includes(subject)));
  };
  const hasRoom = (node: number) => running.size < (nodes[node] as GraphNode).maxParallel && !hasLockOf(node);

  for (const node of documents.unfinished) start(node);
  for (;;) {
    const toUndo = listDocumentsToUndo(nodes, outcomes).filter(node => !undone.has(node));
    if (running.size === 0) {
      for (const node of toUndo) {
        undone.add(node);
        outcomes[node] = await documents.undo(node);
      }
    }
    // Others may wait for a document that is skipped: repeat until nothing changes.
    for (let hasSkipped = !documents.isCancelled; hasSkipped; ) {
      hasSkipped = false;
      for (const node of nodes.keys()) {
        if (outcomes[node] !== undefined || running.has(node)) continue;
        const next = decideNext(nodes, node, outcomes);
        if (next.do === 'skip') {
          outcomes[node] = 'skipped';
          hasSkipped = true;
        } else if (next.do === 'begin' && hasRoom(node) && (running.size === 0 || toUndo.length === 0)) start(node);
      }
    }
    if (running.size === 0) return;
    await Promise.race(running.values());
  }
}

/** Returns the nodes to undo, the last first. Documents that run after failures, or always, are not undone. */
function listDocumentsToUndo(
  nodes: readonly GraphNode[],
  outcomes: readonly (DocumentOutcome | undefined)[],
): number[] {
  const files = new Set(
    nodes.flatMap(({ onFailure, file }, node) => {
      const outcome = outcomes[node];
      const hasFailed = outcome === 'failed' || outcome === 'rolled-back' || outcome === 'cancelled';
      return onFailure === 'rollback' && hasFailed ? [file] : [];
    }),
  );
  return sortTopologically(nodes)
    .filter(node => {
      const { file, when } = nodes[node] as GraphNode;
      return files.has(file) && outcomes[node] === 'succeeded' && (when === undefined || when === 'succeeded');
    })
    .reverse();
}

/** Returns all nodes, each after the ones that it waits for. */
export function sortTopologically(nodes: readonly GraphNode[]): number[] {
  const order = new Set<number>();
  const seen = new Set<number>();
  const visit = (node: number) => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const before of nodes[node]?.after ?? []) visit(before);
    order.add(node);
  };
  for (const node of nodes.keys()) visit(node);
  return [...order];
}

/** Returns a graph in which each document waits for all before it, and a failure ends the run. */
export function createSequence(length: number): ReturnType<typeof graphOfCommand> {
  const mine = Array.from({ length }, (_, index) => index);
  const nodes = mine.map(index => ({
    after: mine.slice(0, index),
    named: false,
    when: undefined,
    onFailure: 'stop' as const,
    file: 0,
    maxParallel: 1,
  }));
  return { nodes, mine, ended: mine.map(() => undefined) };
}
