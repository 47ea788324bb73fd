import type { GraphNode } from '../intents/graph.ts';
import type { TargetHosts } from './targets.ts';

/** The documents that go to the same hosts in one command for each host. */
export interface Batch {
  target: TargetHosts;
  /** Their places in the graph, in order. */
  places: number[];
}

/**
 * Splits a graph into batches. Documents for the same hosts travel together unless a document for other hosts comes between
 * them. If everything is for one host there is one batch, and its agent gets the whole graph.
 */
export function batchesOf(nodes: readonly GraphNode[], targets: readonly TargetHosts[]): Batch[] {
  const levels = new Map<number, number>();
  const levelOf = (place: number): number => {
    const known = levels.get(place);
    if (known !== undefined) return known;
    const level = Math.max(
      0,
      ...(nodes[place]?.after ?? []).map(
        before => levelOf(before) + (targets[before]?.key === targets[place]?.key ? 0 : 1),
      ),
    );
    levels.set(place, level);
    return level;
  };
  const batches = new Map<string, Batch & { level: number }>();
  for (const place of nodes.keys()) {
    const target = targets[place] as TargetHosts;
    const level = levelOf(place);
    const key = `${level} ${target.key}`;
    const batch = batches.get(key) ?? { target, places: [], level };
    batch.places.push(place);
    batches.set(key, batch);
  }
  return [...batches.values()]
    .sort((a, b) => a.level - b.level || (a.places[0] ?? 0) - (b.places[0] ?? 0))
    .map(({ target, places }) => ({ target, places }));
}

/** Returns true if no two commands ever run at the same time. */
export function isSequential(nodes: readonly GraphNode[], batches: readonly Batch[]): boolean {
  return batches.every(({ target, places }, index) => {
    if (target.waves.some(hosts => hosts.length > 1)) return false;
    const before = batches[index - 1];
    return !before || places.some(place => nodes[place]?.after.some(one => before.places.includes(one)));
  });
}
