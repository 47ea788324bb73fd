import type { GraphNode } from '../intents/graph.ts';
import type { Target } from './fleet.ts';

/** Documents that travel to one target in one command a host. */
export interface Unit {
  target: Target;
  /** Their places in the graph, in order. */
  places: number[];
}

/**
 * Splits a graph into units: what is for one target travels together, unless something for another one comes in between.
 * Where everything is for one host that is one unit, and its agent holds the whole graph.
 */
export function unitsOf(nodes: readonly GraphNode[], targets: readonly Target[]): Unit[] {
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
  const units = new Map<string, Unit & { level: number }>();
  for (const place of nodes.keys()) {
    const target = targets[place] as Target;
    const level = levelOf(place);
    const key = `${level} ${target.key}`;
    const unit = units.get(key) ?? { target, places: [], level };
    unit.places.push(place);
    units.set(key, unit);
  }
  return [...units.values()]
    .sort((a, b) => a.level - b.level || (a.places[0] ?? 0) - (b.places[0] ?? 0))
    .map(({ target, places }) => ({ target, places }));
}

/** Whether no two commands are ever under way at the same time. */
export function isStraight(nodes: readonly GraphNode[], units: readonly Unit[]): boolean {
  return units.every(({ target, places }, index) => {
    if (target.waves.some(hosts => hosts.length > 1)) return false;
    const before = units[index - 1];
    return !before || places.some(place => nodes[place]?.after.some(one => before.places.includes(one)));
  });
}
