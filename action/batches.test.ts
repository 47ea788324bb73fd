import { describe, expect, it } from 'vitest';
import { graphOf } from '../intents/graph.ts';
import { batchesOf, isSequential } from './batches.ts';

/** Documents of one file, each as its host and the ids that it needs (by default everything before it). */
function splitGraph(documents: [host: string, needs?: number[]][]) {
  const nodes = graphOf(
    documents.map(([, needs], index) => ({
      name: 'it',
      document: index + 1,
      intent: { action: 'rollout', id: `d${index}`, ...(needs ? { needs: needs.map(place => `d${place}`) } : {}) },
    })),
  );
  const batches = batchesOf(
    nodes,
    documents.map(([host]) => ({ key: host, waves: host.split('|').map(wave => wave.split(',')) })),
  );
  return {
    batches: batches.map(({ target, places }) => `${target.key}: ${places.join(' ')}`),
    isSequential: isSequential(nodes, batches),
  };
}

describe('a graph', () => {
  it.each<[string, [string, number[]?][], { batches: string[]; isSequential: boolean }]>([
    ['one for one host', [['a'], ['a'], ['a']], { batches: ['a: 0 1 2'], isSequential: true }],
    ['one for each host in turn', [['a'], ['b'], ['a']], { batches: ['a: 0', 'b: 1', 'a: 2'], isSequential: true }],
    [
      'together if nothing comes between',
      [['a'], ['b', []], ['a', [0]]],
      { batches: ['a: 0 2', 'b: 1'], isSequential: false },
    ],
    [
      'apart if another host comes between',
      [['a'], ['b', [0]], ['a', [1]]],
      { batches: ['a: 0', 'b: 1', 'a: 2'], isSequential: true },
    ],
    ['a fleet wave by wave', [['a|b|c']], { batches: ['a|b|c: 0'], isSequential: true }],
    ['a fleet with a wave of two hosts', [['a|b,c']], { batches: ['a|b,c: 0'], isSequential: false }],
  ])('is split into batches: %s', (_, documents, expected) => {
    expect(splitGraph(documents)).toEqual(expected);
  });
});
