/** The measurements of both sides, in milliseconds or another unit in which less is better. */
export interface Pair {
  ours: number;
  theirs: number;
}

/** Runs both sides in turn, `rounds` times after a warm-up round. The order alternates, so that no side profits from the other. */
export async function measurePairs(
  rounds: number,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let round = -1; round < rounds; round++) {
    const pair = { ours: 0, theirs: 0 };
    for (const side of round % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const)) {
      pair[side] = await (side === 'ours' ? ours() : theirs());
    }
    if (round >= 0) pairs.push(pair);
  }
  return pairs;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted.length % 2 ? upper : sorted[middle - 1];
  if (upper === undefined || lower === undefined) throw new Error('The list of values is empty');
  return (upper + lower) / 2;
}

/** Formats one line of the report: the ratio of the medians, both medians, and the goal. */
export function report(name: string, pairs: Pair[], unit: string, goal: string): string {
  const ours = median(pairs.map(pair => pair.ours));
  const theirs = median(pairs.map(pair => pair.theirs));
  return `${name}: ratio ${(ours / theirs).toFixed(2)} (goal ${goal}; medians ${ours.toFixed(1)} and ${theirs.toFixed(1)} ${unit}, ${pairs.length} pairs)`;
}
