import { type DocumentOutcome, type GraphNode, graphOf } from '../intents/graph.ts';
import type { Deployment } from './command.ts';

/**
 * A command's documents among those of its graph that other commands carry, in the graph's order. `mine` holds the place of
 * each of the command's own, `ended` how the others have ended.
 */
export function graphOfCommand({ intents, given = [] }: Pick<Deployment, 'intents' | 'given'>): {
  nodes: GraphNode[];
  mine: number[];
  ended: (DocumentOutcome | undefined)[];
} {
  const all = [
    ...intents.map((document, index) => ({ document, at: document.place ?? index, own: index, ended: undefined })),
    ...given.map(document => ({ document, at: document.place, own: -1, ended: document.outcome })),
  ].sort((a, b) => a.at - b.at);
  return {
    nodes: graphOf(all.map(({ document }) => document)),
    mine: intents.map((_, index) => all.findIndex(({ own }) => own === index)),
    ended: all.map(({ ended }) => ended),
  };
}
