import { type DocumentOutcome, type GraphNode, graphOf } from '../intents/graph.ts';
import type { Deployment } from './command.ts';

/**
 * The graph of a command's documents and of those that other commands carry, in the graph's order. `mine` holds the index of
 * each document of the command, `ended` the results of the others.
 */
export function graphOfCommand({ intents, given = [] }: Pick<Deployment, 'intents' | 'given'>): {
  nodes: GraphNode[];
  mine: number[];
  ended: (DocumentOutcome | undefined)[];
} {
  const all = [
    ...intents.map((document, number) => ({ document, index: document.place ?? number, number, outcome: undefined })),
    ...given.map(document => ({ document, index: document.place, number: -1, outcome: document.outcome })),
  ].sort((a, b) => a.index - b.index);
  return {
    nodes: graphOf(all.map(({ document }) => document)),
    mine: intents.map((_, number) => all.findIndex(entry => entry.number === number)),
    ended: all.map(({ outcome }) => outcome),
  };
}
