import { type DocumentOutcome, type GraphNode, graphOf } from '../intents/graph.ts';
import type { Deployment } from './command.ts';

/**
 * The graph of a command's documents and of those that other commands carry, in the graph's order. `own` holds the index of
 * each document of the command, `outcomes` the results of the others.
 */
export function graphOfCommand({ intents, given = [] }: Pick<Deployment, 'intents' | 'given'>): {
  nodes: GraphNode[];
  own: number[];
  outcomes: (DocumentOutcome | undefined)[];
} {
  const all = [
    ...intents.map((document, number) => ({ document, index: document.place ?? number, number, outcome: undefined })),
    ...given.map(document => ({ document, index: document.place, number: -1, outcome: document.outcome })),
  ].sort((a, b) => a.index - b.index);
  return {
    nodes: graphOf(all.map(({ document }) => document)),
    own: intents.map((_, number) => all.findIndex(entry => entry.number === number)),
    outcomes: all.map(({ outcome }) => outcome),
  };
}
